"""Distillation in PyTorch Lightning.  pip install lightning, then  python examples/own_loops/lightning_module.py"""

from __future__ import annotations

import lightning
import torch
from task import EPOCHS, batches, distillation, optimizer_of
from torch import Tensor

from distillens.transfer.training.transfer import Transfer


class Distillation(lightning.LightningModule):
    def __init__(self, transfer: Transfer) -> None:
        super().__init__()
        self.transfer = transfer

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self.transfer(*batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer_of(self.transfer)


def trained() -> Transfer:
    module = Distillation(distillation())
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(batches(), batch_size=None))
    return module.transfer


if __name__ == "__main__":
    print(trained().matching)
