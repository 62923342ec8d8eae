"""scikit-learn estimators and pipelines from .skops files, of reviewed types only.

A .skops file lists the types it wants to be made of, and a loader that trusts the list runs what its author chose. Here the list is
ours: `TYPES`, each read with an eye on what setting its state can do. A file that asks for anything else is not opened. The whole
schema is looked at before the library sees it, since the library trusts types by default that were not reviewed here. Trees are
compiled code that follows child numbers without looking; they are checked after loading, before any row is sent through them.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import ArtefactError, MissingExtraError, ModelError, UntrustedCodeError
from distillens.models.opened import ModelFile, places_of, require_numbers, shortened

if TYPE_CHECKING:
    from distillens.data.base import Column
    from distillens.models.estimator import EstimatorModel

LARGEST_SCHEMA = 64 << 20  # bytes of the JSON inside
LARGEST_FILE = 4 << 30  # bytes of everything inside, unpacked
MAIN = "schema.json"
UNCHECKED = ("RandomForest", "ExtraTreesC", "ExtraTreesR", "GradientBoosting")  # hand rows to their trees as they are

# module → types. No type that calls functions named in its state (FunctionTransformer, make_scorer, …), no object arrays, no
# structures of compiled code whose state cannot be checked (libsvm, k-d trees).
TYPES: dict[str, tuple[str, ...]] = {
    "builtins": ("dict", "list", "tuple", "set", "str", "int", "float", "bool", "slice"),
    "collections": ("OrderedDict",),
    "numpy": (
        "ndarray", "dtype", "bool", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "str_",
    ),
    "numpy.random.mtrand": ("RandomState",),
    "numpy.random._generator": ("Generator",),
    "sklearn.pipeline": ("Pipeline", "FeatureUnion"),
    "sklearn.compose._column_transformer": ("ColumnTransformer", "_RemainderColsList"),
    "sklearn.compose._target": ("TransformedTargetRegressor",),
    "sklearn.impute._base": ("SimpleImputer", "MissingIndicator"),
    "sklearn.preprocessing._data": (
        "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "Normalizer", "Binarizer", "PowerTransformer",
        "QuantileTransformer",
    ),
    "sklearn.preprocessing._encoders": ("OneHotEncoder", "OrdinalEncoder"),
    "sklearn.preprocessing._discretization": ("KBinsDiscretizer",),
    "sklearn.preprocessing._polynomial": ("PolynomialFeatures",),
    "sklearn.preprocessing._label": ("LabelBinarizer", "LabelEncoder"),
    "sklearn.preprocessing._target_encoder": ("TargetEncoder",),
    "sklearn.decomposition._pca": ("PCA",),
    "sklearn.feature_selection._variance_threshold": ("VarianceThreshold",),
    "sklearn.linear_model._base": ("LinearRegression",),
    "sklearn.linear_model._logistic": ("LogisticRegression", "LogisticRegressionCV"),
    "sklearn.linear_model._ridge": ("Ridge", "RidgeCV"),
    "sklearn.linear_model._coordinate_descent": ("Lasso", "ElasticNet", "LassoCV", "ElasticNetCV"),
    "sklearn.linear_model._bayes": ("BayesianRidge",),
    "sklearn.linear_model._glm.glm": ("PoissonRegressor", "GammaRegressor", "TweedieRegressor"),
    "sklearn.naive_bayes": ("GaussianNB", "BernoulliNB", "CategoricalNB"),
    "sklearn.discriminant_analysis": ("LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis"),
    "sklearn.tree._classes": ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"),
    "sklearn.tree._tree": ("Tree",),
    "sklearn.ensemble._forest": (
        "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
    ),
    "sklearn.ensemble._gb": ("GradientBoostingClassifier", "GradientBoostingRegressor"),
    "sklearn.ensemble._weight_boosting": ("AdaBoostClassifier", "AdaBoostRegressor"),
    "sklearn.ensemble._bagging": ("BaggingClassifier", "BaggingRegressor"),
    "sklearn.ensemble._voting": ("VotingClassifier", "VotingRegressor"),
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": (
        "HistGradientBoostingClassifier", "HistGradientBoostingRegressor",
    ),
    "sklearn.ensemble._hist_gradient_boosting.binning": ("_BinMapper",),
    "sklearn.ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "sklearn._loss.loss": (
        "HalfBinomialLoss", "HalfMultinomialLoss", "HalfSquaredError", "AbsoluteError", "PinballLoss", "HuberLoss",
        "HalfPoissonLoss", "HalfGammaLoss", "ExponentialLoss",
    ),
    "sklearn._loss._loss": (
        "CyHalfBinomialLoss", "CyHalfMultinomialLoss", "CyHalfSquaredError", "CyAbsoluteError", "CyPinballLoss", "CyHuberLoss",
        "CyHalfPoissonLoss", "CyHalfGammaLoss", "CyExponentialLoss",
    ),
    "sklearn._loss.link": ("Interval", "IdentityLink", "LogLink", "LogitLink", "HalfLogitLink", "MultinomialLogit"),
    "sklearn.utils._bunch": ("Bunch",),
    "sklearn.dummy": ("DummyClassifier", "DummyRegressor"),
    "sklearn.neural_network._multilayer_perceptron": ("MLPClassifier", "MLPRegressor"),
    "sklearn.neural_network._stochastic_optimizers": ("AdamOptimizer", "SGDOptimizer"),
    "sklearn.calibration": ("CalibratedClassifierCV", "_CalibratedClassifier", "_SigmoidCalibration"),
    "sklearn.isotonic": ("IsotonicRegression",),
}  # fmt: skip

# How the library makes a value of what the file holds; none of these calls anything that the file names.
LOADERS = frozenset({
    "DictNode", "ListNode", "TupleNode", "SetNode", "JsonNode", "SliceNode", "TypeNode", "ObjectNode", "NdArrayNode", "DTypeNode",
    "LossNode", "TreeNode", "RandomStateNode", "RandomGeneratorNode", "CachedNode",
})  # fmt: skip


def open_skops(path: Path) -> ModelFile:
    """Open a .skops file.

    Raises MissingExtraError without the library, UntrustedCodeError for types that were not reviewed, ArtefactError for damaged
    files, ModelError for anything that is no fitted classifier or regressor.
    """
    try:
        import skops.io
    except ImportError as error:
        raise MissingExtraError("skops", "skops", f"Reading {path.name}") from error
    wanted = _types_of(path)
    strange = sorted(wanted - _known())
    if strange:
        raise UntrustedCodeError(
            f"{path.name} wants {', '.join(shortened(name) for name in strange[:5])}{', …' if len(strange) > 5 else ''}, which "
            f"{'is' if len(strange) == 1 else 'are'} not among the types that distillens reviewed; export the model as ONNX, or name a function "
            "that loads it as package.module:name with --trust-code."
        )
    try:
        from sklearn.exceptions import InconsistentVersionWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentVersionWarning)  # what does not fit any more is an error below
            trusted = sorted(set(skops.io.get_untrusted_types(file=path)) & _known())
            estimator = skops.io.load(path, trusted=trusted)
    except (MemoryError, Exception) as error:  # a state that does not fit its type may fail anywhere in the library
        said = " ".join(str(error).split())[:160]
        raise ArtefactError(
            f"{path} is a damaged .skops file, or written by an incompatible scikit-learn ({type(error).__name__}: {said})."
        ) from error
    if not (hasattr(estimator, "get_params") and hasattr(estimator, "predict")):
        raise ModelError(f"{path.name} holds a {type(estimator).__name__}, not a classifier or regressor.")
    for tree, width in _trees(estimator):
        if not _is_sound(tree, width):
            raise ArtefactError(f"{path} is damaged: a tree in it points to nodes or features that do not exist.")
    return opened_estimator(estimator, path.name, "scikit-learn")


def _known() -> set[str]:
    return {f"{module}.{name}" for module, names in TYPES.items() for name in names}


def _types_of(path: Path) -> set[str]:
    """Every type and way of making it that the file's schema names."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if sizes.get(MAIN, 0) > LARGEST_SCHEMA or sum(sizes.values()) > LARGEST_FILE:
                raise ArtefactError(f"{path} unpacks to more than distillens reads; it is damaged or hostile.")
            schema = json.loads(archive.read(MAIN))
    except KeyError as error:
        raise ArtefactError(f"{path} is a zip file, but no .skops file: it holds no {MAIN}.") from error
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError, NotImplementedError, RuntimeError) as error:
        raise ArtefactError(f"{path} is not a .skops file, or damaged ({str(error)[:160]}).") from error
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "__loader__" in node:
                if node["__loader__"] not in LOADERS:
                    found.add(f"({node['__loader__']}) {node.get('__module__')}.{node.get('__class__')}")
                else:
                    found.add(f"{node.get('__module__')}.{node.get('__class__')}")
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return found


def _trees(thing: Any) -> Iterator[tuple[Any, int]]:
    """Every tree of compiled code inside an estimator, with the number of features its rows are sure to have.

    That is what the nearest estimator around it was fitted on; forests and boosting check rows once and hand them to their parts
    unchecked, so theirs counts for all parts.
    """
    waiting: list[tuple[Any, int, bool]] = [(thing, 0, False)]
    seen = set()
    while waiting:
        one, width, fixed = waiting.pop()
        if id(one) in seen or isinstance(one, (str, int, float, bool, type(None), np.generic)):
            continue
        seen.add(id(one))
        if type(one).__name__ in ("Tree", "TreePredictor"):
            yield one, width
        elif isinstance(one, dict):
            waiting.extend((value, width, fixed) for value in one.values())
        elif isinstance(one, (list, tuple, set)) or (isinstance(one, np.ndarray) and one.dtype == object):
            waiting.extend((value, width, fixed) for value in (one.flat if isinstance(one, np.ndarray) else one))
        elif not isinstance(one, np.ndarray) and hasattr(one, "__dict__"):
            own = vars(one).get("n_features_in_")
            if isinstance(own, (int, np.integer)) and not fixed:
                width, fixed = int(own), type(one).__name__.startswith(UNCHECKED)
            waiting.extend((value, width, fixed) for value in vars(one).values())


def _is_sound(tree: Any, width: int) -> bool:
    """Children exist and come after their parent, features exist."""
    if type(tree).__name__ == "Tree":
        left, right, feature = tree.children_left, tree.children_right, tree.feature
        inner, count = left != -1, len(left)
        if count == 0 or len(right) != count or len(tree.value) != count:
            return False
    else:
        nodes = tree.nodes
        names = {"left", "right", "feature_idx", "is_leaf", "is_categorical", "bitset_idx"}
        if getattr(nodes, "ndim", 0) != 1 or not len(nodes) or not names <= set(nodes.dtype.names or ()):
            return False
        left, right, feature = (nodes[k].astype(np.int64) for k in ("left", "right", "feature_idx"))
        inner, count = nodes["is_leaf"] == 0, len(nodes)
        lists = nodes["bitset_idx"][(nodes["is_categorical"] == 1) & inner]
        if len(lists) and lists.max() >= min(len(tree.raw_left_cat_bitsets), len(tree.binned_left_cat_bitsets)):
            return False
    node = np.arange(count)
    children = (left > node) & (right > node) & (left < count) & (right < count)
    known = (feature >= 0) & (feature < width)
    return bool((children & known)[inner].all())


def opened_estimator(estimator: Any, label: str, kind: str) -> ModelFile:
    """A fitted scikit-learn estimator as an opened file."""
    from distillens.models.estimator import EstimatorModel, text_of_class

    names = getattr(estimator, "feature_names_in_", None)
    features = None if names is None else tuple(str(name) for name in names)
    count = getattr(estimator, "n_features_in_", None)
    width = None if count is None else int(count)
    known = getattr(estimator, "classes_", None)
    if known is not None and getattr(known, "ndim", 1) != 1:
        raise ModelError(f"The estimator in {label} has several targets; distillens compares models of one.")
    texts = None if known is None else tuple(text_of_class(value) for value in known)
    coded = texts is not None and texts == tuple(str(k) for k in range(len(texts)))

    def make(columns: tuple[Column, ...], classes: tuple[str, ...]) -> EstimatorModel:
        if features is None:  # fitted on an array: it takes numbers by position
            require_numbers(columns, places_of(columns, features=None, width=width, label=label), label=label)
        return EstimatorModel(estimator, columns, classes, label)

    return ModelFile(
        kind, label, features, width, None, () if texts is None else None if coded else texts,
        1 if texts is None else len(texts), make,
    )  # fmt: skip
