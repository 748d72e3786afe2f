"""What every other room stands on: frames, results, the bundle, the machine, errors and timing."""
