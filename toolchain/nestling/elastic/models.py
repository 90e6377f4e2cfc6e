"""Ready-made supernets of any size, without Hugging Face."""

from __future__ import annotations

from nestling.elastic.families.bert import ElasticBert
from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.families.mobilenet import ElasticMobileNet
from nestling.elastic.families.vit import ElasticViT

__all__ = ["ElasticBert", "ElasticLlama", "ElasticMobileNet", "ElasticViT"]
