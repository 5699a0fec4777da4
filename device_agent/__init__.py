"""Work on a device: hear of a version, fetch it, train, and deliver what came of it."""
