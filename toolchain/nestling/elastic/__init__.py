"""Supernets: elastic blocks, the space of subnets, conversion of existing models."""

from __future__ import annotations

from nestling.elastic.attention import ElasticAttention
from nestling.elastic.block import ElasticBlock
from nestling.elastic.checkpoint import load, save
from nestling.elastic.convert import convert
from nestling.elastic.convolution import ElasticConvolution
from nestling.elastic.feed_forward import ElasticFeedForward
from nestling.elastic.fixed import FixedBlock
from nestling.elastic.importance import sort_units
from nestling.elastic.inverted_residual import ElasticInvertedResidual
from nestling.elastic.models import ElasticBert, ElasticLlama, ElasticMobileNet, ElasticViT
from nestling.elastic.recalibrate import recalibrate
from nestling.elastic.subnet import BlockSpec, Subnet, SubnetSpace, make_space
from nestling.elastic.supernet import Supernet

__all__ = [
    "BlockSpec",
    "ElasticAttention",
    "ElasticBert",
    "ElasticBlock",
    "ElasticConvolution",
    "ElasticFeedForward",
    "ElasticInvertedResidual",
    "ElasticLlama",
    "ElasticMobileNet",
    "ElasticViT",
    "FixedBlock",
    "Subnet",
    "SubnetSpace",
    "Supernet",
    "convert",
    "load",
    "make_space",
    "recalibrate",
    "save",
    "sort_units",
]
