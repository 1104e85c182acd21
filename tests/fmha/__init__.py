import cutplan


def is_backward(sku: cutplan.KernelSku) -> bool:
    return "backward" in sku.op
