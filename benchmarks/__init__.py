"""What Flockwise costs: measurements, and what they gave."""
