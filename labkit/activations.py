"""What enters a layer, quantized there.

A quantizer sits at the input of a layer and not at the output of an activation function. So nothing
depends on a module existing for what made the values: `F.relu`, attention and residual sums are
caught like everything else, because in the end they enter a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from labkit.affine import fake_quantize, quantize
from labkit.checks import check_bits
from labkit.qparams import QParams, choose_qparams

if TYPE_CHECKING:
    from labkit.observers import MinMaxObserver

MODES = ("observe", "static", "dynamic")


class Float32Scale(nn.Module):
    """A module whose buffer `scale` stays float32 when the model around it becomes half precision.

    >>> import torch
    >>> module = Float32Scale()
    >>> module.register_buffer("scale", torch.tensor(0.1))
    >>> module.half().scale.dtype
    torch.float32
    """

    scale: Tensor | None

    def _apply(self, fn, recurse: bool = True):
        kept = self._buffers.get("scale")
        super()._apply(fn, recurse)
        # The scale as it was, not rounded to half and back; only its device may change.
        if kept is not None and self.scale.dtype != kept.dtype:
            self.scale = kept.to(self.scale.device)
        return self


class ActivationQuantizer(Float32Scale):
    """Quantizes what enters a layer, in one of three modes.

    * "observe": passes x on unchanged and shows it to the `observer`; `frozen()` gives the rest.
    * "static": one grid, `qparams`, chosen before (by calibration or training).
    * "dynamic": the grid is chosen from each x when it arrives. With `per_token`, an x of three or
      more dimensions (batch, tokens, features) gets one grid a token, otherwise one for all of x.

    Codes are unsigned with a zero point (affine). Calling it *simulates*: the result is float, in
    the dtype of x, and holds only values of the grid. `codes` gives the integers that integer
    arithmetic *runs* on. Raises ValueError for another mode, bits outside 2..8, static without
    qparams and observe without an observer.

    >>> import torch
    >>> ActivationQuantizer(bits=2)(torch.tensor([0.0, 0.4, 3.0]))
    tensor([0., 0., 3.])
    """

    zero_point: Tensor | None

    def __init__(
        self,
        bits: int = 8,
        mode: str = "dynamic",
        *,
        per_token: bool = False,
        qparams: QParams | None = None,
        observer: MinMaxObserver | None = None,
    ) -> None:
        """Make it; static needs `qparams`, observe needs an `observer`."""
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
        for needed_by, name, value in (
            ("static", "qparams", qparams),
            ("observe", "observer", observer),
        ):
            if (mode == needed_by) != (value is not None):
                verb = "needs" if mode == needed_by else "takes no"
                raise ValueError(f"the mode {mode!r} {verb} {name}")
        self.bits = check_bits(bits)
        self.mode = mode
        self.per_token = bool(per_token)
        self.observer = observer
        self.register_buffer("scale", None if qparams is None else qparams.scale)
        self.register_buffer("zero_point", None if qparams is None else qparams.zero_point)
        self.code_range = None if qparams is None else (qparams.quant_min, qparams.quant_max)

    @property
    def qparams(self) -> QParams | None:
        """The grid of a static quantizer; None otherwise."""
        if self.mode != "static":
            return None
        return QParams(self.scale, self.zero_point, *self.code_range)

    def params_for(self, x: Tensor) -> QParams:
        """Return the grid for this x; ValueError where x is empty or not finite (dynamic)."""
        if self.mode == "static":
            return self.qparams
        if self.mode == "observe":
            return self.observer.qparams()
        # A token is a group as long as the last dimension.
        token = x.shape[-1] if self.per_token and x.ndim >= 3 else None
        return choose_qparams(x, self.bits, group_size=token)

    def forward(self, x: Tensor) -> Tensor:
        """Return x as its codes represent it, same shape and dtype."""
        if self.mode == "observe":
            self.observer.observe(x)
            return x
        # An empty batch has no range and needs none.
        return fake_quantize(x, self.params_for(x)) if x.numel() else x

    def codes(self, x: Tensor) -> Tensor:
        """Return the integer codes of x, for `params_for(x)`."""
        return quantize(x, self.params_for(x))

    def frozen(self) -> ActivationQuantizer:
        """Return the static quantizer for what was observed; ValueError when nothing was."""
        if self.mode != "observe":
            raise ValueError(f"only an observing quantizer can be frozen, this one is {self.mode}")
        return ActivationQuantizer(self.bits, "static", qparams=self.observer.qparams())

    def extra_repr(self) -> str:
        """The settings, as print(model) shows them."""
        return f"bits={self.bits}, mode={self.mode}" + (", per_token" if self.per_token else "")
