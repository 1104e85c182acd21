"""A gated MLP and its gradients: y = (silu(x W1) * (x W2)) W3, the layer of today's language models.

The forward keeps nothing but x and the hidden layer; the backward computes what it needs of the gate again.
"""

from __future__ import annotations

import torch

import cutplan


def forward(
    x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, w3: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = cutplan.matmul(x, w1, b2=w2, activation="silu")  # two products and the gate, one kernel
    return cutplan.matmul(hidden, w3), hidden


def backward(
    dy: torch.Tensor,
    x: torch.Tensor,
    hidden: torch.Tensor,
    w1: torch.Tensor,
    w2: torch.Tensor,
    w3: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    last = cutplan.matmul_backward(dy, hidden, w3)
    aux = torch.empty_like(hidden)
    gate = cutplan.matmul(x, w1, activation="silu", aux=aux)  # aux: x W1, before the activation
    value = cutplan.matmul(x, w2)
    # dx is the sum over both branches: the second is added to the first's by the epilogue.
    first = cutplan.matmul_backward(last.da * value, x, w1, activation="silu", aux=aux)
    dz = last.da * gate
    dx = cutplan.matmul(dz, w2.T, residual=first.da)
    dw2 = cutplan.matmul(x.T, dz)
    return dx, first.db, dw2, last.db


def main() -> None:
    gpu = cutplan.cuda_device_count() > 0 and torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    tokens, width, hidden_width = 128, 256, 688

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, device=device) / shape[0] ** 0.5).to(dtype)

    x, w1, w2, w3 = (
        random(tokens, width),
        random(width, hidden_width),
        random(width, hidden_width),
        random(hidden_width, width),
    )
    y, hidden = forward(x, w1, w2, w3)
    dy = random(tokens, width)
    gradients = backward(dy, x, hidden, w1, w2, w3)

    wide = [t.double().requires_grad_() for t in (x, w1, w2, w3)]
    exact = (torch.nn.functional.silu(wide[0] @ wide[1]) * (wide[0] @ wide[2])) @ wide[3]
    exact.backward(dy.double())
    for name, ours, right in zip(
        ("y", "dx", "dw1", "dw2", "dw3"), (y, *gradients), (exact, *(t.grad for t in wide)), strict=True
    ):
        assert right is not None
        error = (ours.double() - right).norm() / right.norm()
        print(f"{name:>3} {tuple(ours.shape)!s:>11}: {error.item():.1e} from float64")
        assert error < (0.02 if dtype is torch.bfloat16 else 1e-5)


if __name__ == "__main__":
    main()
