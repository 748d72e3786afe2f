"""The base of every other room: frames, results, the bundle, the machine, errors and timing."""
