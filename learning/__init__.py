"""What one node does with a model and a chunk of data: the only room that knows torch."""

import os

# OpenMP reads this once, when torch is loaded. Threads that spin while they wait made steps twenty
# times slower as soon as another process wanted the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
