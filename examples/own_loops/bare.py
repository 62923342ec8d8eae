"""Distillation in a loop written by hand.  python examples/own_loops/bare.py"""

from __future__ import annotations

from task import EPOCHS, batches, distillation, optimizer_of

from distillens.transfer.training.transfer import Transfer


def trained() -> Transfer:
    transfer = distillation()
    optimizer = optimizer_of(transfer)
    transfer.train()
    for _ in range(EPOCHS):
        for x, y in batches():
            loss = transfer(x, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return transfer


if __name__ == "__main__":
    transfer = trained()
    print(transfer.matching)
    x, y = batches()[0]
    print({name: round(float(value), 4) for name, value in transfer.step(x, y).terms.items()})
