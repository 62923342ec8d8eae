"""BibTeX of the methods that a study uses, from the papers named in their docstrings; only what is certain is written."""

from __future__ import annotations

from collections.abc import Iterable

KEYS: dict[str, tuple[str, ...]] = {
    "kd": ("hinton2015distilling",),
    "mse": ("ba2014deep",),
    "dkd": ("zhao2022decoupled",),
    "nkd": ("yang2023knowledge",),
    "dist": ("huang2022knowledge",),
    "mlkd": ("jin2023multi",),
    "jsd": ("agarwal2024policy",),
    "reverse_kl": ("gu2024minillm",),
    "rkd": ("park2019relational",),
    "sp": ("tung2019similarity",),
    "pkt": ("passalis2018learning",),
    "cc": ("peng2019correlation",),
    "cka": ("kornblith2019similarity",),
    "crd": ("tian2020contrastive",),
    "fitnet": ("romero2015fitnets",),
    "attention_transfer": ("zagoruyko2017paying",),
    "review": ("chen2021distilling",),
    "mgd": ("yang2022masked",),
    "vid": ("ahn2019variational",),
    "simkd": ("chen2022knowledge",),
    "cat_kd": ("guo2023class",),
    "gradient_matching": ("parchami2024good", "czarnecki2017sobolev"),
    "jacobian": ("srinivas2018knowledge",),
    "gradcam_matching": ("parchami2024good", "selvaraju2017gradcam"),
    "attribution_matching": ("sundararajan2017axiomatic",),
    "noise_queries": ("srinivas2018knowledge",),
}
STATISTICS = ("dorfman1992receiver", "hillis2007comparison", "holm1979simple")


def _arxiv(key: str, author: str, title: str, year: int, number: str) -> str:
    return (f"@misc{{{key},\n  author = {{{author}}},\n  title = {{{title}}},\n  year = {{{year}}},\n"
            f"  eprint = {{{number}}},\n  archivePrefix = {{arXiv}}\n}}")  # fmt: skip


def _venue(key: str, author: str, title: str, year: int, venue: str) -> str:
    return f"@inproceedings{{{key},\n  author = {{{author}}},\n  title = {{{title}}},\n  booktitle = {{{venue}}},\n  year = {{{year}}}\n}}"


def _journal(key: str, author: str, title: str, year: int, journal: str, volume: int) -> str:
    return (f"@article{{{key},\n  author = {{{author}}},\n  title = {{{title}}},\n  journal = {{{journal}}},\n  volume = {{{volume}}},\n"
            f"  year = {{{year}}}\n}}")  # fmt: skip


BIBTEX: dict[str, str] = {}
_PAPERS = (
    (
        "ba2014deep",
        "Lei Jimmy Ba and Rich Caruana",
        "Do Deep Nets Really Need to be Deep?",
        2014,
        "Advances in Neural Information Processing Systems",
    ),
    (
        "zhao2022decoupled",
        "Borui Zhao and Quan Cui and Renjie Song and Yiyu Qiu and Jiajun Liang",
        "Decoupled Knowledge Distillation",
        2022,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    ),
    (
        "yang2023knowledge",
        "Zhendong Yang and Ailing Zeng and Zhe Li and Tianke Zhang and Chun Yuan and Yu Li",
        "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and Customized Soft Labels",
        2023,
        "IEEE/CVF International Conference on Computer Vision",
    ),
    (
        "huang2022knowledge",
        "Tao Huang and Shan You and Fei Wang and Chen Qian and Chang Xu",
        "Knowledge Distillation from A Stronger Teacher",
        2022,
        "Advances in Neural Information Processing Systems",
    ),
    (
        "jin2023multi",
        "Ying Jin and Jiaqi Wang and Dahua Lin",
        "Multi-Level Logit Distillation",
        2023,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    ),
    (
        "agarwal2024policy",
        "Rishabh Agarwal and Nino Vieillard and others",
        "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
        2024,
        "International Conference on Learning Representations",
    ),
    (
        "gu2024minillm",
        "Yuxian Gu and Li Dong and Furu Wei and Minlie Huang",
        "{MiniLLM}: Knowledge Distillation of Large Language Models",
        2024,
        "International Conference on Learning Representations",
    ),
    (
        "park2019relational",
        "Wonpyo Park and Dongju Kim and Yan Lu and Minsu Cho",
        "Relational Knowledge Distillation",
        2019,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    ),
    (
        "tung2019similarity",
        "Frederick Tung and Greg Mori",
        "Similarity-Preserving Knowledge Distillation",
        2019,
        "IEEE/CVF International Conference on Computer Vision",
    ),
    (
        "passalis2018learning",
        "Nikolaos Passalis and Anastasios Tefas",
        "Learning Deep Representations with Probabilistic Knowledge Transfer",
        2018,
        "European Conference on Computer Vision",
    ),
    (
        "peng2019correlation",
        "Baoyun Peng and Xiao Jin and Jiaheng Liu and Dongsheng Li and Yichao Wu and Yu Liu and Shunfeng Zhou and Zhaoning Zhang",
        "Correlation Congruence for Knowledge Distillation",
        2019,
        "IEEE/CVF International Conference on Computer Vision",
    ),
    (
        "kornblith2019similarity",
        "Simon Kornblith and Mohammad Norouzi and Honglak Lee and Geoffrey Hinton",
        "Similarity of Neural Network Representations Revisited",
        2019,
        "International Conference on Machine Learning",
    ),
    (
        "tian2020contrastive",
        "Yonglong Tian and Dilip Krishnan and Phillip Isola",
        "Contrastive Representation Distillation",
        2020,
        "International Conference on Learning Representations",
    ),
    (
        "romero2015fitnets",
        "Adriana Romero and Nicolas Ballas and Samira Ebrahimi Kahou and Antoine Chassang and Carlo Gatta and Yoshua Bengio",
        "{FitNets}: Hints for Thin Deep Nets",
        2015,
        "International Conference on Learning Representations",
    ),
    (
        "zagoruyko2017paying",
        "Sergey Zagoruyko and Nikos Komodakis",
        "Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via Attention Transfer",
        2017,
        "International Conference on Learning Representations",
    ),
    (
        "chen2021distilling",
        "Pengguang Chen and Shu Liu and Hengshuang Zhao and Jiaya Jia",
        "Distilling Knowledge via Knowledge Review",
        2021,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    ),
    (
        "yang2022masked",
        "Zhendong Yang and Zhe Li and Mingqi Shao and Dachuan Shi and Zehuan Yuan and Chun Yuan",
        "Masked Generative Distillation",
        2022,
        "European Conference on Computer Vision",
    ),
    (
        "ahn2019variational",
        "Sungsoo Ahn and Shell Xu Hu and Andreas Damianou and Neil D. Lawrence and Zhenwen Dai",
        "Variational Information Distillation for Knowledge Transfer",
        2019,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    ),
    (
        "chen2022knowledge",
        "Defang Chen and Jian-Ping Mei and Hailin Zhang and Can Wang and Yan Feng and Chun Chen",
        "Knowledge Distillation with the Reused Teacher Classifier",
        2022,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    ),
    (
        "guo2023class",
        "Ziyao Guo and Haonan Yan and Hui Li and Xiaodong Lin",
        "Class Attention Transfer Based Knowledge Distillation",
        2023,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    ),
    (
        "parchami2024good",
        'Amin Parchami-Araghi and Moritz B{\\"o}hle and Sukrut Rao and Bernt Schiele',
        "Good Teachers Explain: Explanation-Enhanced Knowledge Distillation",
        2024,
        "European Conference on Computer Vision",
    ),
    (
        "czarnecki2017sobolev",
        "Wojciech Marian Czarnecki and Simon Osindero and Max Jaderberg and Grzegorz {\\'S}wirszcz and Razvan Pascanu",
        "Sobolev Training for Neural Networks",
        2017,
        "Advances in Neural Information Processing Systems",
    ),
    (
        "srinivas2018knowledge",
        "Suraj Srinivas and Fran{\\c{c}}ois Fleuret",
        "Knowledge Transfer with {Jacobian} Matching",
        2018,
        "International Conference on Machine Learning",
    ),
    (
        "selvaraju2017gradcam",
        "Ramprasaath R. Selvaraju and Michael Cogswell and Abhishek Das and Ramakrishna Vedantam and Devi Parikh and Dhruv Batra",
        "{Grad-CAM}: Visual Explanations from Deep Networks via Gradient-Based Localization",
        2017,
        "IEEE International Conference on Computer Vision",
    ),
    (
        "sundararajan2017axiomatic",
        "Mukund Sundararajan and Ankur Taly and Qiqi Yan",
        "Axiomatic Attribution for Deep Networks",
        2017,
        "International Conference on Machine Learning",
    ),
)
_ARTICLES = (
    (
        "dorfman1992receiver",
        "Donald D. Dorfman and Kevin S. Berbaum and Charles E. Metz",
        "Receiver Operating Characteristic Rating Analysis: Generalization to the Population of Readers and Patients with the Jackknife Method",
        1992,
        "Investigative Radiology",
        27,
    ),
    (
        "hillis2007comparison",
        "Stephen L. Hillis",
        "A Comparison of Denominator Degrees of Freedom Methods for Multiple Observer {ROC} Analysis",
        2007,
        "Statistics in Medicine",
        26,
    ),
    (
        "holm1979simple",
        "Sture Holm",
        "A Simple Sequentially Rejective Multiple Test Procedure",
        1979,
        "Scandinavian Journal of Statistics",
        6,
    ),
)
_PREPRINTS = (
    (
        "hinton2015distilling",
        "Geoffrey Hinton and Oriol Vinyals and Jeff Dean",
        "Distilling the Knowledge in a Neural Network",
        2015,
        "1503.02531",
    ),
)
BIBTEX |= {paper[0]: _venue(*paper) for paper in _PAPERS}
BIBTEX |= {article[0]: _journal(*article) for article in _ARTICLES}
BIBTEX |= {preprint[0]: _arxiv(*preprint) for preprint in _PREPRINTS}


def entries_for(kinds: Iterable[str]) -> list[str]:
    """Entries of these kinds of objectives, in order and once each, and of the study's statistics; kinds of one's own have none."""
    keys = [key for kind in kinds for key in KEYS.get(kind, ())]
    return [BIBTEX[key] for key in dict.fromkeys((*keys, *STATISTICS))]
