"""What a frozen LLM is given beside the model: adapters, soft prefixes, references, memories of drafts."""

from hagpolicy.artefacts.folder import Artefact as Artefact
from hagpolicy.artefacts.folder import load_artefacts as load_artefacts
from hagpolicy.artefacts.folder import open_artefact as open_artefact
from hagpolicy.artefacts.folder import write_record as write_record
