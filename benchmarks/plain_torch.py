"""A ViT as functions of torch, which the models of this package are set against."""

import torch
import torch.nn.functional as F


class PlainVit:
    """A ViT without modules: fused query, key and value, fused attention.

    Args:
        fields: Fields of `WideNetConfig` that say its sizes.
    """

    def __init__(self, fields):
        def weight(*shape):
            return torch.nn.Parameter(0.02 * torch.randn(*shape))

        width, hidden, size = fields["width"], fields["mlp_dim"], fields["patch_size"]
        tokens = (fields["image_size"] // size) ** 2 + 1
        self.heads, self.size = fields["heads"], size
        self.patches = weight(width, fields["channels"], size, size), weight(width)
        self.token, self.position = weight(1, 1, width), weight(tokens, width)
        self.blocks = [
            [
                (weight(width), weight(width)),
                (weight(3 * width, width), weight(3 * width)),
                (weight(width, width), weight(width)),
                (weight(width), weight(width)),
                (weight(hidden, width), weight(hidden)),
                (weight(width, hidden), weight(width)),
            ]
            for _ in range(fields["steps"])
        ]
        self.norm = weight(width), weight(width)
        self.head = weight(fields["num_classes"], width), weight(fields["num_classes"])
        pairs = [self.patches, self.norm, self.head, (self.token, self.position)]
        pairs += [pair for block in self.blocks for pair in block]
        self.parameters = [parameter for pair in pairs for parameter in pair]

    def __call__(self, images):
        """Returns the logits of images (B, channels, height, width)."""
        x = F.conv2d(images, *self.patches, stride=self.size).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(len(x), -1, -1), x), 1) + self.position
        for norm1, inner, output, norm2, hidden, outer in self.blocks:
            normal = F.layer_norm(x, x.shape[-1:], *norm1, 1e-6)
            made = F.linear(normal, *inner).view(*x.shape[:2], 3, self.heads, -1)
            query, key, value = made.permute(2, 0, 3, 1, 4).unbind()
            mixed = F.scaled_dot_product_attention(query, key, value)
            x = x + F.linear(mixed.transpose(1, 2).flatten(2), *output)
            normal = F.layer_norm(x, x.shape[-1:], *norm2, 1e-6)
            inside = F.gelu(F.linear(normal, *hidden), approximate="tanh")
            x = x + F.linear(inside, *outer)
        return F.linear(
            F.layer_norm(x[:, 0], x.shape[-1:], *self.norm, 1e-6), *self.head
        )


def training(model, optimizer, images, labels):
    """Returns a function that takes a training step and returns the loss.

    Args:
        model: Function from images to logits.
        optimizer: A torch optimizer of its parameters.
        images: (B, channels, height, width).
        labels: (B,) int64.
    """

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step
