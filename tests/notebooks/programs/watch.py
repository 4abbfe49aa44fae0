def _watch_the_next_cell(stop_at=None):
    """Counts the calls that the next cell makes, and raises an interrupt in its own code once there were `stop_at` of them."""
    import signal
    import sys

    from IPython import get_ipython

    shell, calls = get_ipython(), 0

    def in_the_cells_own_code(frame):
        while frame is not None:
            name = frame.f_code.co_filename
            if "ipykernel_" in name:  # the file that a cell is said to stand in
                return True
            if any(f"/{part}/" in name for part in ("ipykernel", "IPython", "zmq", "jupyter_client", "comm")):
                return False
            frame = frame.f_back
        return False

    def profile(frame, event, argument):
        nonlocal calls
        calls += event == "call"
        if stop_at is not None and calls >= stop_at and in_the_cells_own_code(frame):
            sys.setprofile(None)
            shell.was_interrupted = True
            signal.raise_signal(signal.SIGINT)

    def start(info):
        shell.events.unregister("pre_run_cell", start)
        shell.events.register("post_run_cell", stop)
        shell.was_interrupted = False
        sys.setprofile(profile)

    def stop(result):
        sys.setprofile(None)
        shell.events.unregister("post_run_cell", stop)
        shell.calls = calls

    shell.events.register("pre_run_cell", start)
