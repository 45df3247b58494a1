"""The median step of a training from its progress, which `condense distill --progress jsonl` writes to standard error.

usage: condense distill … --progress jsonl 2>&1 | step_times.py TOKENS_OF_A_STEP
The first two steps are left out, as by peer_train.py; so are the last one, which ends in a validation, and the wait for it.
"""
import json
import statistics
import sys
import time

times = []
for line in sys.stdin:
    if line.startswith("{") and json.loads(line).get("task") == "distill":
        times.append(time.perf_counter())
steps = [after - before for before, after in zip(times[1:], times[2:-1])]
median = statistics.median(steps)
print(f"{int(sys.argv[1]) / median:.0f} tokens/s, step {median:.3f} s, fastest {min(steps):.3f} s, {len(steps)} steps")
