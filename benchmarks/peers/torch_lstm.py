"""A plain PyTorch loop of SAM on the LSTM classifier, with either of the two ways that PyTorch has for unequal texts.

Started as `torch_lstm.py THREADS WEIGHTS.npz packed|padded DROPOUT wall|cpu`; reads numbers of rounds over the
batches, one a line, and answers each with the seconds they took, the loss of the last step and the norm of its
perturbed gradient.
`packed` is nn.LSTM in both directions on packed sequences; `padded` is two nn.LSTM on texts padded to the longest of
their batch, the second on the texts reversed. Both give exactly what the words alone would give.
"""

import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

RHO, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, WORD_DROPOUT = 0.1, 0.1, 0.8, 3e-6, 0.1  # as in lstm_step.py

torch.set_num_threads(int(sys.argv[1]))
GIVEN = dict(np.load(sys.argv[2]))
IS_PACKED, DROPOUT = sys.argv[3] == "packed", float(sys.argv[4])


def given(name: str) -> torch.Tensor:
    return torch.from_numpy(GIVEN[name]).clone()


def linear(name: str) -> nn.Linear:
    kernel = given(f"{name}/kernel")
    layer = nn.Linear(*kernel.shape, bias=f"{name}/bias" in GIVEN)
    layer.weight.data.copy_(kernel.T)
    if layer.bias is not None:
        layer.bias.data.copy_(given(f"{name}/bias"))
    return layer


def fill(lstm: nn.LSTM, suffix: str, name: str) -> None:
    """Set one direction; the second bias, which PyTorch adds to the first, stays at zero."""
    getattr(lstm, f"weight_ih_l0{suffix}").data.copy_(given(f"{name}/input/kernel").T)
    getattr(lstm, f"weight_hh_l0{suffix}").data.copy_(given(f"{name}/kernel").T)
    getattr(lstm, f"bias_ih_l0{suffix}").data.copy_(given(f"{name}/input/bias"))
    second = getattr(lstm, f"bias_hh_l0{suffix}")
    second.data.zero_()
    second.requires_grad_(False)


class Classifier(nn.Module):
    """As flatwide/models/lstm.py."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding.from_pretrained(given("words/embedding"), freeze=False)
        size, features = GIVEN["forward/kernel"].shape[0], GIVEN["words/embedding"].shape[1]
        if IS_PACKED:
            self.both = nn.LSTM(features, size, batch_first=True, bidirectional=True)
            fill(self.both, "", "forward")
            fill(self.both, "_reverse", "backward")
        else:
            self.forwards, self.backwards = nn.LSTM(features, size), nn.LSTM(features, size)
            fill(self.forwards, "", "forward")
            fill(self.backwards, "", "backward")
        self.keys, self.energy, self.hidden, self.output = map(linear, ("keys", "energy", "hidden", "output"))
        self.dropout = nn.Dropout(DROPOUT)

    def encode(self, embedded, lengths, reverse):
        if IS_PACKED:
            packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            return pad_packed_sequence(self.both(packed)[0], batch_first=True)[0]
        embedded = embedded.transpose(0, 1)
        index = reverse.T[..., None]
        backwards = self.backwards(embedded.gather(0, index.expand(-1, -1, embedded.shape[2])))[0]
        backwards = backwards.gather(0, index.expand(-1, -1, backwards.shape[2]))
        return torch.cat([self.forwards(embedded)[0], backwards], dim=2).transpose(0, 1)

    def forward(self, tokens, lengths, reverse):
        is_word = tokens != 0
        if DROPOUT > 0:
            tokens = tokens.masked_fill((torch.rand(tokens.shape) < WORD_DROPOUT) & is_word, 1)
        encoded = self.dropout(self.encode(self.dropout(self.words(tokens)), lengths, reverse))
        scores = self.energy(torch.tanh(self.keys(encoded)))[..., 0]
        attention = torch.softmax(scores.masked_fill(~is_word, -torch.inf), dim=1)
        context = self.dropout(torch.bmm(attention[:, None], encoded)[:, 0])
        return self.output(self.dropout(torch.tanh(self.hidden(context))))


def batches() -> list[tuple]:
    """Cut each batch to its longest text, and say which word comes when backwards."""
    found = []
    for rows, labels in zip(GIVEN["inputs"], GIVEN["targets"], strict=True):
        lengths = (rows != 0).sum(axis=1)
        place = np.arange(lengths.max())[None]
        reverse = np.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
        arrays = (rows[:, : lengths.max()], lengths, reverse, labels)
        found.append(tuple(torch.from_numpy(array.astype(np.int64)) for array in arrays))
    return found


def total_norm(tensors) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def main() -> None:
    model = Classifier().train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    data, count = batches(), 0

    def step(tokens, lengths, reverse, labels):
        nonlocal count
        count += 1
        torch.manual_seed(count)  # both passes drop the same
        loss = functional.cross_entropy(model(tokens, lengths, reverse), labels)
        loss.backward()
        with torch.no_grad():
            gradients = [parameter.grad for parameter in parameters]
            ascent = torch._foreach_mul(gradients, RHO / (total_norm(gradients) + 1e-12))
            torch._foreach_add_(parameters, ascent)
        optimizer.zero_grad()
        torch.manual_seed(count)
        functional.cross_entropy(model(tokens, lengths, reverse), labels).backward()
        with torch.no_grad():
            torch._foreach_sub_(parameters, ascent)
            size = total_norm([parameter.grad for parameter in parameters])
        optimizer.step()
        optimizer.zero_grad()
        return loss, size

    clock = time.process_time if sys.argv[5] == "cpu" else time.perf_counter
    print(f"torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        began = clock()
        for _ in range(int(line)):
            for batch in data:
                loss, size = step(*batch)
        loss, size = loss.item(), size.item()
        print(clock() - began, loss, size, flush=True)


main()
