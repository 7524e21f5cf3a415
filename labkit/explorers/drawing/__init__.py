"""What draws a scene: marks, axes, text, colours, tooltips; `explorers.svg` is the way in."""
