"""Distillation with the Trainer of Hugging Face.  pip install transformers, then  python examples/own_loops/hugging_face.py"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
import transformers
from task import EPOCHS, batches, distillation, optimizer_of
from torch import Tensor

from distillens.transfer.training.transfer import Transfer


class Distillation(transformers.Trainer):
    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        del num_items_in_batch  # tokens, which rows have none of
        loss = model(inputs["x"], inputs["labels"])
        return (loss, {}) if return_outputs else loss

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=None)


def trained() -> Transfer:
    transfer = distillation()
    optimizer = optimizer_of(transfer)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            output_dir=folder, num_train_epochs=EPOCHS, max_grad_norm=0.0, use_cpu=True, report_to="none", save_strategy="no",
            logging_strategy="no", disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        rows = [{"x": x, "labels": y} for x, y in batches()]
        Distillation(transfer, settings, train_dataset=rows, optimizers=(optimizer, constant)).train()
    return transfer


if __name__ == "__main__":
    print(trained().matching)
