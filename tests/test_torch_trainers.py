"""SAM in the loops of Lightning and Hugging Face, as the docs show it, against steps by hand."""

import re

import pytest

RHO, RATE = 0.5, 0.1


def by_hand(torch, weight, inputs, targets):
    """Take a SAM step on the mean squared error of a linear model, from its closed-form gradient."""

    def gradient(weight):
        return 2 * (inputs @ weight - targets) @ inputs / len(inputs)

    first = gradient(weight)
    return weight - RATE * gradient(weight + RHO * first / torch.linalg.vector_norm(first))


@pytest.fixture
def page(root):
    """Give the classes of the page by name."""
    names: dict = {}
    for code in re.findall(r"^```python\n(.*?)^```", (root / "docs/howto/torch_trainers.md").read_text(), re.M | re.S):
        try:
            exec(compile(code, "torch_trainers.md", "exec"), names)
        except ModuleNotFoundError:
            continue
    return names


@pytest.fixture
def problem():
    """Give PyTorch, a linear model, and its data in one batch."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch, torch.nn.Linear(3, 1, bias=False), torch.randn(8, 3), torch.randn(8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightning_takes_two_steps_of_sam(page, problem, tmp_path):
    lightning = pytest.importorskip("lightning")
    torch, model, inputs, targets = problem

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, index):
            return ((self.model(batch[0])[:, 0] - batch[1]) ** 2).mean()

        def configure_optimizers(self):
            return page["SAM"](self.parameters(), rho=RHO, lr=RATE)

    expected = model.weight.detach()[0].clone()
    for _ in range(2):
        expected = by_hand(torch, expected, inputs, targets)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=8)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    lightning.Trainer(max_epochs=2, default_root_dir=tmp_path, **quiet).fit(Module(), loader)
    assert torch.allclose(model.weight[0], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_trainer_takes_two_steps_of_sam(page, problem, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch, model, inputs, targets = problem

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, inputs, labels):
            return {"loss": ((self.model(inputs)[:, 0] - labels) ** 2).mean()}

    expected = model.weight.detach()[0].clone()
    for _ in range(2):
        expected = by_hand(torch, expected, inputs, targets)
    network = Network()
    trainer = page["SAMTrainer"](
        model=network,
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=2,
            per_device_train_batch_size=8,
            max_grad_norm=0.0,
            lr_scheduler_type="constant",
            report_to=[],
            save_strategy="no",
            use_cpu=True,
        ),
        train_dataset=[{"inputs": x, "labels": y} for x, y in zip(inputs, targets, strict=True)],
        optimizers=(torch.optim.SGD(network.parameters(), lr=RATE), None),
    )
    trainer.rho = RHO
    trainer.train()
    assert torch.allclose(model.weight[0], expected, rtol=1e-5)
