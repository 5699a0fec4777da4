"""Central, alone and federated in several ways, on the same images and devices: one report."""
