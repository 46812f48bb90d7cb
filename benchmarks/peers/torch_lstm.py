"""The LSTM classifier in PyTorch, as `torch_sam` starts and trains it, by either of two ways for unequal texts.

`packed` is nn.LSTM in both directions on packed sequences; `padded` is two nn.LSTM on texts padded to the longest of
their batch, the second on the texts reversed. Both give exactly what the words alone would give.
"""

import torch
import torch_sam
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch_sam import CONFIG, WAY, WEIGHTS, embedding, linear, weight

WORD_DROPOUT = 0.1


def fill(lstm: nn.LSTM, suffix: str, name: str) -> None:
    """Set one direction; the second bias, which PyTorch adds to the first, stays at zero."""
    getattr(lstm, f"weight_ih_l0{suffix}").data.copy_(weight(f"{name}/input/kernel").T)
    getattr(lstm, f"weight_hh_l0{suffix}").data.copy_(weight(f"{name}/kernel").T)
    getattr(lstm, f"bias_ih_l0{suffix}").data.copy_(weight(f"{name}/input/bias"))
    second = getattr(lstm, f"bias_hh_l0{suffix}")
    second.data.zero_()
    second.requires_grad_(False)


class Classifier(nn.Module):
    """As flatwide/models/lstm.py."""

    def __init__(self):
        super().__init__()
        self.words = embedding("words")
        size, features = WEIGHTS["forward/kernel"].shape[0], self.words.embedding_dim
        if WAY == "packed":
            self.both = nn.LSTM(features, size, batch_first=True, bidirectional=True)
            fill(self.both, "", "forward")
            fill(self.both, "_reverse", "backward")
        else:
            self.forwards, self.backwards = nn.LSTM(features, size), nn.LSTM(features, size)
            fill(self.forwards, "", "forward")
            fill(self.backwards, "", "backward")
        self.keys, self.energy, self.hidden, self.output = map(linear, ("keys", "energy", "hidden", "output"))
        self.dropout = nn.Dropout(CONFIG["dropout"])

    def encode(self, embedded, lengths, reverse):
        if WAY == "packed":
            packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            return pad_packed_sequence(self.both(packed)[0], batch_first=True)[0]
        embedded = embedded.transpose(0, 1)
        index = reverse.T[..., None]
        backwards = self.backwards(embedded.gather(0, index.expand(-1, -1, embedded.shape[2])))[0]
        backwards = backwards.gather(0, index.expand(-1, -1, backwards.shape[2]))
        return torch.cat([self.forwards(embedded)[0], backwards], dim=2).transpose(0, 1)

    def forward(self, tokens, lengths, reverse):
        is_word = tokens != 0
        if CONFIG["dropout"] > 0:
            tokens = tokens.masked_fill((torch.rand(tokens.shape) < WORD_DROPOUT) & is_word, 1)
        encoded = self.dropout(self.encode(self.dropout(self.words(tokens)), lengths, reverse))
        scores = self.energy(torch.tanh(self.keys(encoded)))[..., 0]
        attention = torch.softmax(scores.masked_fill(~is_word, -torch.inf), dim=1)
        context = self.dropout(torch.bmm(attention[:, None], encoded)[:, 0])
        return self.output(self.dropout(torch.tanh(self.hidden(context))))


def prepared(inputs, targets) -> tuple[tuple, torch.Tensor]:
    """Cut a batch to its longest text, and say which word comes when backwards."""
    lengths = (inputs != 0).sum(dim=1)
    index = torch.arange(int(lengths.max()))[None]
    reverse = torch.where(index < lengths[:, None], lengths[:, None] - 1 - index, index)
    return (inputs[:, : lengths.max()].long(), lengths, reverse), targets.long()


model = Classifier()
batches = [prepared(**batch) for batch in torch_sam.read_batches()]
torch_sam.train(model, lambda batch: functional.cross_entropy(model(*batch[0]), batch[1]), batches)
