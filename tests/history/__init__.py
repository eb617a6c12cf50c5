"""Histories: what producers, task functions, broker and injectors of faults witnessed, and what must hold of it.

How to use it, in a test or a long run:

    folder = tmp_path                                  # every witness of a run writes a file of its own in here
    terms = Terms(capacity=50, workers=2)              # what the broker was started with
    broker = WitnessedBroker(folder, terms)            # tests.history.process: a real one, with tests.history.jobs
    load = Load(broker.endpoint, folder, seed=1)       # tests.history.load: a producer on a thread, with mixed jobs
    load.start(); ...; load.stop()
    with fault(folder, "kill", pid=broker.pid): broker.kill()      # tests.history.events
    broker.stop()
    check(History.read(folder), terms, demand={"kill_in_flight"})  # tests.history.checker; raises AnomalyError

The broker's witness explains, and proves nothing: the rules go by what producers and task functions saw.
"""
