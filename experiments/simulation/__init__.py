"""A federation in virtual time: the real cores, real training, devices as they are modelled."""

import os

# Before numpy is loaded: threads of its own for sums of a millisecond would only disturb trainings.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
