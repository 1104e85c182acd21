"""A plan in a hot loop, as an engine uses it: chosen once, asked what it is, run many times over."""

from __future__ import annotations

import torch

import cutplan


def main() -> None:
    device = "cuda" if cutplan.cuda_device_count() and torch.cuda.is_available() else "cpu"
    tokens, width, hidden = 64, 512, 1536

    plan = cutplan.GemmPlan.select(
        cutplan.GemmDescriptor(
            m=tokens,
            n=hidden,
            k=width,
            a="bfloat16",
            layout="rcr",  # the weight is stored [hidden, width] and used transposed
            epilogue=cutplan.Epilogue(bias=True, activation="silu"),
        ),
        device,
    )
    print(f"{plan.sku}: {plan.precision_guarantee}")

    x = torch.randn(tokens, width, device=device, dtype=torch.bfloat16)
    weight = torch.randn(hidden, width, device=device, dtype=torch.bfloat16) / width**0.5
    bias = torch.randn(hidden, device=device, dtype=torch.bfloat16)
    y = torch.empty(tokens, hidden, device=device, dtype=torch.bfloat16)
    scratch = (
        torch.empty(plan.workspace_size, device=device, dtype=torch.uint8) if plan.workspace_size else None
    )

    plan.can_implement(x, weight.T, y, bias=bias)  # raises what run() would, without touching the device
    for _ in range(10):
        plan.run(x, weight.T, y, bias=bias, workspace=scratch)

    reference = torch.nn.functional.silu(x.double() @ weight.double().T + bias.double())
    print(f"largest difference from float64: {(y.double() - reference).abs().max().item():.4f}")

    try:
        plan.run(x, weight, y, bias=bias)
    except cutplan.ShapeMismatch as error:
        print(f"and what a mistake says: {error}")


if __name__ == "__main__":
    main()
