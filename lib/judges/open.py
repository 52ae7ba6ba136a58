"""A judge by its name: a folder, a hub id, or a model on a server."""

from lib.backend import on_cluster
from lib.errors import BadInput
from lib.judges.cluster import ClusterJudge
from lib.judges.served import ServedJudge
from lib.judges.vlm import VLMJudge
from lib.profiles import find_folder


def open_judge(name: str, layout: str = "montage") -> VLMJudge | ServedJudge:
    """The judge of a folder (from the caller's or the repository's root), of a hub id, or of `http://host:8000/v1#model`.

    Raises BadInput for any other name, and for a judge that cannot be opened.
    """
    name = str(name)
    if name.startswith(("http://", "https://")):
        return ServedJudge(name, layout)
    place = find_folder(name)
    if isinstance(place, str) and name.count("/") != 1:  # a hub id is owner/name
        remedy = "Use the folder of a vision-language model, its hub id, or a server's http://host:8000/v1#model"
        raise BadInput("judge", f"{name!r} is neither a folder nor a hub id", remedy)
    return (ClusterJudge if on_cluster() else VLMJudge)(place, layout)
