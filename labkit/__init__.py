"""labkit: the small, readable library behind Quantization Lab."""
