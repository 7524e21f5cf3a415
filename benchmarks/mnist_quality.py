"""What static 8 bits and 2 bits leave of the bundled networks, on the same 1000 test images.

    python benchmarks/mnist_quality.py

Static W8A8 must lie within 0.5 points of float, for the MLP and the CNN; 2-bit weights on one scale
a tensor must collapse, and one scale a channel must rescue part of it, beyond what 1000 images
leave open (paired). Exit status 1 when one of these does not hold. The figures are deterministic on
one machine; nothing is timed.
"""

import sys

from labkit.compare import compare_models
from labkit.data import load_mnist
from labkit.evaluate import accuracy
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn, mnist_mlp

CALIBRATION_IMAGES = 500
LIMIT_POINTS = 0.5


def main() -> int:
    mnist, failed = load_mnist(), False
    test = mnist.test_images, mnist.test_labels
    for name, model in (("MLP", mnist_mlp()), ("CNN", mnist_cnn())):
        print(f"{name}, float:           {accuracy(model, *test)}")
        calibration = mnist.train_images[:CALIBRATION_IMAGES].split(100)
        static, report = quantize_model(model, "static", calibration_data=calibration)
        change = compare_models(model, static, *test)
        holds = abs(100 * change.difference) <= LIMIT_POINTS
        failed |= not holds
        print(f"{name}, static W8A8:     {accuracy(static, *test)}")
        print(f"    against float:    {change}")
        smaller = f"{report.compression_ratio:.2f} times smaller"
        print(f"    within {LIMIT_POINTS} points: {holds}; {smaller}")
        two = {}
        for granularity in ("tensor", "channel"):
            two[granularity], _ = quantize_model(model, bits=2, granularity=granularity)
            print(f"{name}, 2 bits a {granularity:8} {accuracy(two[granularity], *test)}")
            print(f"    against float:    {compare_models(model, two[granularity], *test)}")
        rescue = compare_models(two["tensor"], two["channel"], *test)
        rescued = rescue.resolved and rescue.difference > 0
        failed |= not rescued
        print(f"    channel - tensor: {rescue}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
