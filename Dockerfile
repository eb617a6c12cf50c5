# One image for the broker and for producers. The base is an argument, so that it can be built where no registry is.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
# Two environments: what installs stays here, and the one that is handed on has nothing but what runs.
RUN python3 -m venv /installer && python3 -m venv --without-pip /turnstile
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY worker_host worker_host
COPY producer producer
COPY demo demo
# Wheels in a folder of that name, if there is one, are taken too; with PIP_NO_INDEX=1 they are all that is taken, so
# that the image can be built where no package index is.
ARG PIP_NO_INDEX
COPY README.md wheel[s] wheels/
RUN /installer/bin/pip --python /turnstile/bin/python --no-cache-dir --disable-pip-version-check \
    install --find-links wheels '.[demo]'

FROM ${BASE}
# Nobody in there needs to be root. A new volume takes owner and mode of the folder that it is mounted on; what is in
# /keys, /handed-out and /state is nobody else's to read.
RUN useradd --uid 10001 --no-create-home --no-log-init turnstile \
    && install --directory --owner 10001 --mode 700 /keys /handed-out /state \
    && install --directory --owner 10001 /reports
COPY --from=build /turnstile /turnstile
# /tmp is the one place that can be written without a volume, where the root file system is read-only.
ENV PATH=/turnstile/bin:$PATH PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp XDG_STATE_HOME=/state
USER turnstile
# SIGTERM drains, also where the broker is the first process of its container: it has a handler of its own.
STOPSIGNAL SIGTERM
EXPOSE 5555
CMD ["turnstile-broker", "--tasks", "demo.tasks"]
