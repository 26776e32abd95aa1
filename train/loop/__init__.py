"""Training: settings, options, epochs, samplers, features, checkpoints."""
