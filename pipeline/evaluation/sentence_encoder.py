"""Vectors of sentences by their meaning, from the pretrained sentence encoder all-MiniLM-L6-v2.

The encoder is optional: `make pretrained` installs it. It was trained on English sentences, and what it says of text in
other languages means little.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.base_models import INSTALL, sentence_encoder_folder
from pipeline.runtime.devices import default_device
from pipeline.runtime.progress import bar

ABSENT = f"it needs the sentence encoder MiniLM; {INSTALL}"
LONGEST = 256  # tokens of a text that the encoder was trained on; the rest is cut
WIDTH = 384  # size of a vector


class SentenceEncoder:
    """all-MiniLM-L6-v2: the mean of the last hidden states over the tokens, scaled to unit length.

    Args:
        folder: model and tokenizer, from `sentence_encoder_folder`.
        device: device of the model.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        from tokenizers import Tokenizer
        from transformers import BertModel

        self.device = device
        model: Any = BertModel.from_pretrained(folder, dtype=torch.float32)
        self.model = model.eval().to(device)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(LONGEST)
        # Three times as fast on a processor with the instructions. Cosines change by less than 0.001.
        able = torch.cpu.get_capabilities() if device.type == "cpu" else {"avx512_bf16": True}
        self.bfloat16 = bool(able.get("avx512_bf16") or able.get("amx_bf16"))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], batch_size: int, description: str) -> np.ndarray:
        """Compute a vector of unit length for each text; the dot product of two is their cosine similarity.

        Args:
            texts: M texts; of a text of more than `LONGEST` tokens, the first ones count.
            batch_size: texts that go through the encoder together.
            description: label of the progress bar.

        Returns:
            [M, `WIDTH`], float32.
        """
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]
        order = np.argsort([-len(own) for own in ids], kind="stable")  # equal lengths together, the longest first
        vectors = np.zeros((len(ids), WIDTH), dtype=np.float32)
        starts = range(0, len(ids), batch_size)
        for start in bar(starts, total=len(starts), desc=description, unit="batch"):
            chosen = order[start : start + batch_size]
            vectors[chosen] = self._batch([ids[number] for number in chosen])
        return vectors

    def _batch(self, batch: Sequence[Sequence[int]]) -> np.ndarray:
        """Compute the vectors [B, `WIDTH`] of token ids."""
        rows = [torch.tensor(ids) for ids in batch]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)  # [B, N]
        lengths = torch.tensor([len(ids) for ids in batch], device=self.device)[:, None]  # [B, 1]
        mask = torch.arange(padded.shape[1], device=self.device) < lengths  # [B, N], True at tokens
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            hidden = self.model(input_ids=padded, attention_mask=mask.long()).last_hidden_state  # [B, N, D]
        mean = (hidden.float() * mask[..., None]).sum(dim=1) / lengths  # [B, D]
        return torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()


def load_encoder() -> SentenceEncoder | None:
    """Load the sentence encoder onto this process's device, or return None where it is not installed.

    Raises:
        UserError: its files are damaged.
    """
    folder = sentence_encoder_folder()
    return None if folder is None else SentenceEncoder(folder, default_device())
