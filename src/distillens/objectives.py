"""Every knowledge-transfer loss under one name: `from distillens.objectives import kd_loss`.

Pure functions take and return torch tensors; the dataclasses of the same methods are recipe entries.
"""

from distillens.transfer.objectives.attention_transfer import AttentionTransfer, attention_transfer_loss
from distillens.transfer.objectives.attribution_matching import (
    AttributionMatching,
    attribution_matching_loss,
    integrated_gradients,
)
from distillens.transfer.objectives.base import (
    OBJECTIVES,
    Batch,
    LearnedObjective,
    Loss,
    Objective,
    PureObjective,
    Shapes,
    View,
)
from distillens.transfer.objectives.cat_kd import CATKD, cat_kd_loss, class_activation_maps
from distillens.transfer.objectives.cc import CC, cc_loss
from distillens.transfer.objectives.cka import CKA, cka_loss
from distillens.transfer.objectives.crd import CRD, crd_loss
from distillens.transfer.objectives.dist import DIST, dist_loss
from distillens.transfer.objectives.dkd import DKD, dkd_loss
from distillens.transfer.objectives.fitnet import FitNet, fitnet_loss
from distillens.transfer.objectives.gradcam_matching import GradCAMMatching, gradcam, gradcam_matching_loss
from distillens.transfer.objectives.gradient_matching import GradientMatching, gradient_matching_loss
from distillens.transfer.objectives.jacobian import JacobianMatching, jacobian_loss
from distillens.transfer.objectives.jsd import JSD, jsd_loss
from distillens.transfer.objectives.kd import KD, kd_loss, standardize_logits
from distillens.transfer.objectives.mgd import MGD, mgd_loss
from distillens.transfer.objectives.mlkd import MLKD, mlkd_loss
from distillens.transfer.objectives.mse import MSE, mse_loss
from distillens.transfer.objectives.nkd import NKD, nkd_loss
from distillens.transfer.objectives.noise_queries import NoiseQueries
from distillens.transfer.objectives.pkt import PKT, pkt_loss
from distillens.transfer.objectives.reverse_kl import ReverseKL, reverse_kl_loss
from distillens.transfer.objectives.review import ReviewKD, review_loss
from distillens.transfer.objectives.rkd import RKD, rkd_angle_loss, rkd_distance_loss
from distillens.transfer.objectives.schedule import Progress, objective_at
from distillens.transfer.objectives.simkd import SimKD, simkd_loss
from distillens.transfer.objectives.sp import SP, sp_loss
from distillens.transfer.objectives.vid import VID, vid_loss

__all__ = [
    "CATKD",
    "CC",
    "CKA",
    "CRD",
    "DIST",
    "DKD",
    "JSD",
    "KD",
    "MGD",
    "MLKD",
    "MSE",
    "NKD",
    "OBJECTIVES",
    "PKT",
    "RKD",
    "SP",
    "VID",
    "AttentionTransfer",
    "AttributionMatching",
    "Batch",
    "FitNet",
    "GradCAMMatching",
    "GradientMatching",
    "JacobianMatching",
    "LearnedObjective",
    "Loss",
    "NoiseQueries",
    "Objective",
    "Progress",
    "PureObjective",
    "ReverseKL",
    "ReviewKD",
    "Shapes",
    "SimKD",
    "View",
    "attention_transfer_loss",
    "attribution_matching_loss",
    "cat_kd_loss",
    "cc_loss",
    "cka_loss",
    "class_activation_maps",
    "crd_loss",
    "dist_loss",
    "dkd_loss",
    "fitnet_loss",
    "gradcam",
    "gradcam_matching_loss",
    "gradient_matching_loss",
    "integrated_gradients",
    "jacobian_loss",
    "jsd_loss",
    "kd_loss",
    "mgd_loss",
    "mlkd_loss",
    "mse_loss",
    "nkd_loss",
    "objective_at",
    "pkt_loss",
    "reverse_kl_loss",
    "review_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "simkd_loss",
    "sp_loss",
    "standardize_logits",
    "vid_loss",
]
