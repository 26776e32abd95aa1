"""Python reads this at its start where the folder is on its path: a clock that stands still.

No duration differs between two runs, so files that hold durations can be compared byte by byte, and what is done
after so many seconds, such as a checkpoint, is done in every run.
"""

import time

time.perf_counter = lambda: 0.0
