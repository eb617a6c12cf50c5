# One image for the broker and for producers. The base is an argument, so that it can be built where no registry is.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /turnstile
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY worker_host worker_host
COPY producer producer
COPY demo demo
# Wheels in a folder of that name, if there is one, are taken too; with PIP_NO_INDEX=1 they are all that is taken, so
# that the image can be built where no package index is.
ARG PIP_NO_INDEX
COPY README.md wheel[s] wheels/
RUN /turnstile/bin/pip install --no-cache-dir --disable-pip-version-check --find-links wheels '.[demo]'

FROM ${BASE}
# Nobody in there needs to be root: the broker binds a high port, and what the demo writes goes to one volume.
RUN useradd --system --uid 10001 --create-home turnstile && mkdir /reports && chown turnstile /reports
COPY --from=build /turnstile /turnstile
ENV PATH=/turnstile/bin:$PATH PYTHONUNBUFFERED=1
USER turnstile
WORKDIR /home/turnstile
VOLUME /reports
# SIGTERM drains; the broker is PID 1 and handles it itself.
STOPSIGNAL SIGTERM
EXPOSE 5555
CMD ["turnstile-broker", "--tasks", "demo.tasks"]
