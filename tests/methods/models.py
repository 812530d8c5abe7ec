"""Small models that keep to the protocol, and one fault each of those that don't."""

import torch
from torch import Tensor

SIZE = 32


class Perfect:
    """Its action is the next frame."""

    bits, image_size, weights = 32.0 * 3 * SIZE * SIZE, SIZE, ()

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return frames_next

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return actions


class Copy(Perfect):
    """It ignores its action, a code of 0 or 1 whether red became darker by more than a tenth."""

    bits = 1.0

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return (frames_next[:, 0].mean((1, 2)) < 0.9 * frames_t[:, 0].mean((1, 2))).long()[:, None]

    def embed(self, actions: Tensor) -> Tensor:
        return actions.float()

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return frames_t


class NoBits(Perfect):
    bits = float("inf")


class NoSize(Perfect):
    image_size = 0


class NoPredict:
    bits, image_size, weights = 1.0, SIZE, ()

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return frames_next


class FewBits(Perfect):
    bits = 1.0


class List(Perfect):
    def infer(self, frames_t, frames_next):
        return [0.0] * len(frames_t)


class OneAction(Perfect):
    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return frames_next[:1]


class NotFinite(Perfect):
    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return frames_next / 0


class Constant(Copy):
    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return torch.zeros(len(frames_t), 1, dtype=torch.int64)


class Complex(Perfect):
    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return torch.fft.fft2(frames_next)


class Negative(Copy):
    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return -super().infer(frames_t, frames_next) - 1


class Random(Perfect):
    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return torch.rand_like(frames_t)


class BatchNorm(Perfect):
    """Normalises over the batch."""

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return frames_next - frames_next.mean(0)


class Small(Perfect):
    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return frames_t[:, :, ::2, ::2]


class Bytes(Perfect):
    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return (frames_t * 255).byte()


class Signed(Perfect):
    """In [-1, 1]."""

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return frames_t * 2 - 1


class NaNs(Perfect):
    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return frames_t * float("nan")


class Noisy(Perfect):
    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return torch.rand_like(frames_t)


class BadEmbed(Copy):
    def embed(self, actions: Tensor) -> Tensor:
        return actions


class Levels(Copy):
    """Two codes of different ranges, 2 and 8."""

    bits = 4.0

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return super().infer(frames_t, frames_next) * torch.tensor([1, 7])


class Elsewhere(Perfect):
    """It gives what it predicts on another device than that of the frames."""

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return actions.to("meta")


class Stops(Perfect):
    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2\n shapes cannot be multiplied")


class NoEmbed(Perfect):
    """Codes, and nothing that says how to read them."""

    bits = 1.0

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return ((frames_next - frames_t).mean((1, 2, 3)) > 0).long()

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return (frames_t + 0.1 * actions[:, None, None, None]).clamp(0, 1)
