"""Where a model looks: its attention maps over an image, drawn and measured."""
