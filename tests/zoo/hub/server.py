"""The contract server: the least that the real Hub client needs in order to publish and to download.

It is written from the requests that the client makes, and it is not the Hub: no web pages, no discussions but those of pull
requests. What is published ends up in ordinary git repositories with LFS (`Repository`), where other tools can check it.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import hashlib
import json
import math
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.zoo.hub.faults import Fault
from tests.zoo.hub.repository import Entry, Pointer, Repository

Handler = Callable[[Request], Awaitable[Response]]

MODEL = "/api/models/{organisation}/{name}"
LARGE = 10_000_000
"""Size in bytes above which a file goes to LFS whatever its name."""


@dataclass(frozen=True)
class Account:
    """Whom a token stands for."""

    user: str
    organisations: tuple[str, ...]
    may_write: bool

    def owns(self, namespace: str) -> bool:
        return namespace in (self.user, *self.organisations)


ACCOUNTS = {
    "hf_write": Account("keeper", ("deepcr-zoo",), may_write=True),
    "hf_read": Account("keeper", ("deepcr-zoo",), may_write=False),
    "hf_other": Account("stranger", (), may_write=True),
}


class Refusal(Exception):  # noqa: N818 - what the server answers, not what goes wrong in it
    """An answer other than success, with the headers by which the client distinguishes its exceptions."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.response = JSONResponse({"error": message}, status, headers)


@dataclass(frozen=True)
class LoggedRequest:
    """What a client asked, and the status it got."""

    method: str
    path: str
    authorised: bool
    status: int


@dataclass
class _Rule:
    """Where a fault strikes, and how many times still."""

    fault: Fault
    method: str
    where: str
    times: float

    def applies(self, request: Request) -> bool:
        return self.times > 0 and request.method == self.method and self.where in request.scope["path"]


class ContractServer:
    """Serves the repositories below ``root/models``.

    One request is worked on at a time (handlers never give way between reading and writing), so no lock is needed.

    Attributes
    ----------
    url : str
        What a test gives as the endpoint.
    private, gated : set of str
        Repositories (``organisation/name``) that only their owners may see, or download.
    log : list of LoggedRequest
        Every request since the test last cleared it.
    """

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.url = f"http://127.0.0.1:{port}"
        # another host name, so that a client has to leave its token behind, as with the Hub's own storage
        self.storage_url = f"http://localhost:{port}/storage"
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.log: list[LoggedRequest] = []
        self._rules: list[_Rule] = []
        self._working = 0

    def inject(self, fault: Fault, *, method: str = "GET", where: str = "/storage/", times: float = math.inf) -> None:
        """Let `fault` spoil the next answers to requests whose path contains `where`."""
        self._rules.append(_Rule(fault, method, where, times))

    def wait_until_idle(self) -> None:
        """Until what a killed client has asked for last is done."""
        quiet = 0
        while quiet < 10:
            time.sleep(0.005)
            quiet = 0 if self._working else quiet + 1

    def calm(self) -> None:
        """No faults any more."""
        self._rules.clear()

    def repository(self, name: str) -> Repository:
        return Repository(self.root / "models" / name)

    def app(self) -> ASGIApp:
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/api/whoami-v2", self._whoami),
            ("POST", "/api/repos/create", self._create_repository),
            ("POST", "/api/validate-yaml", self._validate_yaml),
            ("GET", MODEL, self._model_info),
            ("GET", MODEL + "/revision/{revision}", self._model_info),
            ("GET", MODEL + "/tree/{revision}", self._tree),
            ("GET", MODEL + "/tree/{revision}/{path:path}", self._tree),
            ("GET", MODEL + "/refs", self._references),
            ("GET", MODEL + "/commits/{revision}", self._commits),
            ("GET", MODEL + "/discussions/{number:int}", self._discussion),
            ("POST", MODEL + "/discussions/{number:int}/{action}", self._close_or_merge),
            ("POST", MODEL + "/tag/{revision}", self._create_tag),
            ("DELETE", MODEL + "/tag/{revision}", self._delete_tag),
            ("POST", MODEL + "/preupload/{revision}", self._preupload),
            ("POST", MODEL + "/commit/{revision}", self._commit),
            ("POST", "/{organisation}/{name}.git/info/lfs/objects/batch", self._lfs_batch),
            ("POST", "/{organisation}/{name}.git/info/lfs/verify", self._lfs_verify),
            ("GET", "/{organisation}/{name}/resolve/{revision}/{path:path}", self._resolve),
            ("GET", "/storage/{organisation}/{name}/{sha256}", self._storage_read),
            ("PUT", "/storage/{organisation}/{name}/{sha256}", self._storage_write),
        ]
        starlette = Starlette(
            routes=[Route(path, self._guarded(handler), methods=[method]) for method, path, handler in routes]
        )
        return self._logged(starlette)

    def _logged(self, app: ASGIApp) -> ASGIApp:
        async def logged(scope: Scope, receive: Receive, send: Send) -> None:
            # route on the raw path: the slashes of refs%2Fpr%2F1 belong to the revision
            path = scope["raw_path"].decode()
            authorised = any(name == b"authorization" for name, _ in scope["headers"])

            async def log_and_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self.log.append(LoggedRequest(scope["method"], path, authorised, message["status"]))
                await send(message)

            self._working += 1
            try:
                await app({**scope, "path": path}, receive, log_and_send)
            finally:
                self._working -= 1

        return logged

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                response = await handler(request)
            except Refusal as refusal:
                response = refusal.response
            for rule in self._rules:
                if rule.applies(request):
                    rule.times -= 1
                    return rule.fault(response)
            return response

        return guarded

    # Who may do what

    def _account(self, request: Request) -> Account | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        account = ACCOUNTS.get(header.removeprefix("Bearer "))
        if account is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return account

    def _open(self, request: Request, *, to_write: bool = False, to_download: bool = False) -> Repository:
        """Return the repository that the request names, if the caller may use it in this way."""
        account, name = self._account(request), _repository_name(request)
        repository = self.repository(name)
        refused = 403 if account else 401
        is_owner = account is not None and account.owns(name.partition("/")[0])
        is_writer = is_owner and account is not None and account.may_write
        if not repository.exists() or (name in self.private and not is_owner):
            # without a token the Hub does not say whether there is such a repository
            raise Refusal(404 if account else 401, "Repository not found", "RepoNotFound")
        if to_download and name in self.gated and not is_owner:
            raise Refusal(refused, f"Access to model {name} is restricted", "GatedRepo")
        if to_write and not is_writer:
            raise Refusal(refused, "You don't have the rights to write to this repository")
        return repository

    def _open_to_add(self, request: Request) -> Repository:
        """Whoever may read it and has a token that writes may add objects, which a pull request then names."""
        account = self._account(request)
        if account is None or not account.may_write:
            raise Refusal(403 if account else 401, "You don't have the rights to write to this repository")
        return self._open(request)

    # Repositories, revisions and what is in them

    async def _whoami(self, request: Request) -> Response:
        account = self._account(request)
        if account is None:
            raise Refusal(401, "Invalid username or password")
        role = "write" if account.may_write else "read"
        organisations = [{"name": name, "type": "org"} for name in account.organisations]
        token = {"type": "access_token", "accessToken": {"role": role, "displayName": "test"}}
        return JSONResponse({"type": "user", "name": account.user, "orgs": organisations, "auth": token})

    async def _create_repository(self, request: Request) -> Response:
        account, wanted = self._account(request), await request.json()
        if account is None:
            raise Refusal(401, "Invalid username or password")
        namespace = wanted.get("organization") or account.user
        if not (account.may_write and account.owns(namespace)):
            raise Refusal(403, f"You don't have the rights to create a model under the namespace {namespace}")
        name = f"{namespace}/{wanted['name']}"
        repository, url = self.repository(name), f"{self.url}/{name}"
        if repository.exists():
            return JSONResponse({"error": "You already created this model repo", "url": url}, 409)
        repository.create()
        if wanted.get("visibility") == "private":
            self.private.add(name)
        return JSONResponse({"url": url, "name": name})

    async def _model_info(self, request: Request) -> Response:
        repository, name = self._open(request), _repository_name(request)
        commit = _commit(request, repository)
        files = [entry for entry in repository.entries(commit) if not entry.is_folder]
        readme = next((repository.content(file).decode() for file in files if file.path == "README.md"), "")
        card = _front_matter(readme)
        facts = {"private": name in self.private, "gated": "manual" if name in self.gated else False}
        return JSONResponse(
            {"id": name, "sha": commit, "tags": card.get("tags", []), "cardData": card, "siblings": _siblings(files)} | facts
        )

    async def _tree(self, request: Request) -> Response:
        repository = self._open(request)
        folder = _parameter(request, "path").strip("/")
        recursive = request.query_params.get("recursive") == "true"
        entries = repository.entries(_commit(request, repository), folder, recursive=recursive)
        if folder and not entries:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        return JSONResponse([_tree_entry(entry) for entry in entries])

    async def _references(self, request: Request) -> Response:
        repository = self._open(request)
        found: dict[str, list[dict[str, str]]] = {"converts": []}
        kinds = [("branches", "heads"), ("tags", "tags")]
        if "include_prs" in request.query_params:
            kinds.append(("pullRequests", "pr"))
        for key, kind in kinds:
            references = repository.references(kind).items()
            found[key] = [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit} for name, commit in references
            ]
        return JSONResponse(found)

    async def _commits(self, request: Request) -> Response:
        repository = self._open(request)
        return JSONResponse(
            [
                {"id": one.id, "title": one.title, "message": one.message, "date": one.date, "authors": [{"user": "keeper"}]}
                for one in repository.history(_commit(request, repository))
            ]
        )

    # Pull requests

    async def _discussion(self, request: Request) -> Response:
        return JSONResponse(_discussion(self._open(request), request) | {"diff": ""})

    async def _close_or_merge(self, request: Request) -> Response:
        repository = self._open(request, to_write=True)
        found, action = _discussion(repository, request), request.path_params["action"]
        wanted = json.loads(await request.body() or b"null") or {}
        if action == "merge":
            merged = repository.merge(f"refs/pr/{found['num']}", f"Merge pull request {found['num']}")
            found |= {"status": "merged", "changes": found["changes"] | {"mergeCommitId": merged}}
        else:
            found |= {"status": wanted["status"]}
        repository.write_discussion(found)
        change = {"id": "1", "type": "status-change", "createdAt": found["createdAt"], "author": {"name": "keeper"}}
        return JSONResponse({"newStatus": change | {"data": {"status": found["status"]}}})

    async def _create_tag(self, request: Request) -> Response:
        repository, wanted = self._open(request, to_write=True), await request.json()
        if wanted["tag"] in repository.references("tags"):
            raise Refusal(409, f"Tag {wanted['tag']} already exists")
        repository.tag(wanted["tag"], _commit(request, repository), wanted.get("message"))
        return JSONResponse({})

    async def _delete_tag(self, request: Request) -> Response:
        repository, tag = self._open(request, to_write=True), _parameter(request, "revision")
        if tag not in repository.references("tags"):
            raise Refusal(404, f"Invalid rev id: {tag}", "RevisionNotFound")
        repository.delete_tag(tag)
        return JSONResponse({})

    # Downloads

    async def _resolve(self, request: Request) -> Response:
        repository = self._open(request, to_download=True)
        commit, path = _commit(request, repository), _parameter(request, "path")
        file = repository.file(commit, path)
        if file is None:
            refusal = Refusal(404, f"{path} does not exist", "EntryNotFound")
            refusal.response.headers["X-Repo-Commit"] = commit
            raise refusal
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.oid}"'}
        if file.pointer is None:
            return _bytes(request, repository.content(file), headers)
        headers |= {"X-Linked-ETag": f'"{file.pointer.sha256}"', "X-Linked-Size": str(file.size)}
        location = f"{self.storage_url}/{_repository_name(request)}/{file.pointer.sha256}"
        return Response(status_code=302, headers=headers | {"Location": location})

    async def _storage_read(self, request: Request) -> Response:
        _refuse_token(request)
        sha256 = request.path_params["sha256"]
        data = self.repository(_repository_name(request)).lfs_object(sha256).read_bytes()
        return _bytes(request, data, {"ETag": f'"{sha256}"'})

    # Publishing

    async def _validate_yaml(self, request: Request) -> Response:
        try:
            _front_matter((await request.json())["content"])
        except yaml.YAMLError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    async def _preupload(self, request: Request) -> Response:
        repository, wanted = self._open_to_add(request), await request.json()
        commit = _commit(request, repository)
        patterns = _lfs_patterns(repository, commit)
        present = {entry.path: entry for entry in repository.entries(commit)}

        def plan(file: dict[str, Any]) -> dict[str, Any]:
            path, sample = file["path"], base64.b64decode(file["sample"])
            named = any(fnmatch.fnmatchcase(Path(path).name, pattern) for pattern in patterns)
            mode = "lfs" if named or b"\0" in sample or file["size"] > LARGE else "regular"
            return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": _upload_oid(present.get(path))}

        return JSONResponse({"files": [plan(file) for file in wanted["files"]]})

    async def _lfs_batch(self, request: Request) -> Response:
        repository, wanted = self._open_to_add(request), await request.json()
        name = _repository_name(request)
        actions = {"verify": {"href": f"{self.url}/{name}.git/info/lfs/verify"}}

        def answer(wanted: dict[str, Any]) -> dict[str, Any]:
            if repository.lfs_object(wanted["oid"]).exists():
                return wanted  # no action: it is here already
            return wanted | {"actions": actions | {"upload": {"href": f"{self.storage_url}/{name}/{wanted['oid']}"}}}

        return JSONResponse({"transfer": "basic", "objects": [answer(each) for each in wanted["objects"]]})

    async def _storage_write(self, request: Request) -> Response:
        _refuse_token(request)
        data = await request.body()
        if hashlib.sha256(data).hexdigest() != request.path_params["sha256"]:
            raise Refusal(400, "The content does not have the announced sha256")
        self.repository(_repository_name(request)).store(data)
        return Response()

    async def _lfs_verify(self, request: Request) -> Response:
        repository, wanted = self._open_to_add(request), await request.json()
        path = repository.lfs_object(wanted["oid"])
        if not path.exists() or path.stat().st_size != wanted["size"]:
            raise Refusal(404, "The object is missing, or has another size")
        return JSONResponse({})

    async def _commit(self, request: Request) -> Response:
        proposed = "create_pr" in request.query_params
        repository = self._open_to_add(request) if proposed else self._open(request, to_write=True)
        header, *operations = (json.loads(line) for line in (await request.body()).splitlines() if line.strip())
        head, branch, wanted = _commit(request, repository), _parameter(request, "revision"), header["value"]
        if branch not in repository.references("heads"):
            raise Refusal(404, f"{branch} is not a branch", "RevisionNotFound")
        if not proposed and not head.startswith(wanted.get("parentCommit") or ""):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        changes, deletions = _changes(repository, head, operations)
        message = "\n\n".join(part for part in (wanted["summary"], wanted.get("description")) if part)
        answer = {"success": True}
        reference = f"refs/heads/{branch}"
        if proposed:
            discussion = repository.open_discussion(wanted["summary"])
            reference = f"refs/pr/{discussion['num']}"
            answer["pullRequestUrl"] = f"{self.url}/{_repository_name(request)}/discussions/{discussion['num']}"
        commit = repository.commit(reference, changes, deletions, message, parent=head)
        url = f"{self.url}/{_repository_name(request)}/commit/{commit}"
        return JSONResponse(answer | {"commitOid": commit, "commitUrl": url})


@contextlib.contextmanager
def serve(root: Path) -> Iterator[ContractServer]:
    """Run a contract server in a thread of this process, on a free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ContractServer(root, listener.getsockname()[1])
        # a stalled download must not keep the server from closing
        config = uvicorn.Config(server.app(), lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            running.should_exit = True
            thread.join()


def _discussion(repository: Repository, request: Request) -> dict[str, Any]:
    found = repository.discussion(request.path_params["number"])
    if found is None:
        raise Refusal(404, "There is no such discussion")
    return found


def _parameter(request: Request, name: str) -> str:
    return unquote(request.path_params.get(name, ""))


def _repository_name(request: Request) -> str:
    return f"{_parameter(request, 'organisation')}/{_parameter(request, 'name')}"


def _commit(request: Request, repository: Repository) -> str:
    revision = _parameter(request, "revision") or "main"
    commit = repository.resolve(revision)
    if commit is None:
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def _refuse_token(request: Request) -> None:
    # object storage answers so, because its addresses carry their own signature
    if "Authorization" in request.headers:
        raise Refusal(400, "Only one auth mechanism allowed")


def _bytes(request: Request, data: bytes, headers: dict[str, str]) -> Response:
    """All of `data`, or the part from a first byte on with which the client resumes a download."""
    headers |= {"Accept-Ranges": "bytes"}
    wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    if wanted is None:
        return Response(data, headers=headers, media_type="application/octet-stream")
    first = int(wanted[1])
    if first >= len(data):
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
    return Response(data[first:], 206, headers, "application/octet-stream")


def _front_matter(readme: str) -> dict[str, Any]:
    """The metadata between the ``---`` lines at the top of a README."""
    found = re.match(r"---\n(.*?)\n---", readme, re.DOTALL)
    return (found and yaml.safe_load(found[1])) or {}


def _siblings(files: list[Entry]) -> list[dict[str, Any]]:
    return [
        {"rfilename": file.path, "size": file.size, "blobId": file.oid}
        | ({"lfs": _lfs_facts(file.pointer, "sha256")} if file.pointer else {})
        for file in files
    ]


def _tree_entry(entry: Entry) -> dict[str, Any]:
    facts = {"type": "directory" if entry.is_folder else "file", "path": entry.path, "oid": entry.oid, "size": entry.size}
    return facts | ({"lfs": _lfs_facts(entry.pointer, "oid")} if entry.pointer else {})


def _lfs_facts(pointer: Pointer, hash_key: str) -> dict[str, Any]:
    return {hash_key: pointer.sha256, "size": pointer.size, "pointerSize": len(pointer.text)}


def _lfs_patterns(repository: Repository, commit: str) -> list[str]:
    attributes = repository.file(commit, ".gitattributes")
    lines = repository.content(attributes).decode().splitlines() if attributes else []
    return [line.split()[0] for line in lines if "filter=lfs" in line]


def _upload_oid(present: Entry | None) -> str | None:
    """The hash by which the client sees that a file has not changed."""
    if present is None:
        return None
    return present.pointer.sha256 if present.pointer else present.oid


def _changes(repository: Repository, head: str, operations: list[dict[str, Any]]) -> tuple[dict[str, bytes], list[str]]:
    """What a commit's operations mean for git: new contents by path, and paths to remove."""
    changes: dict[str, bytes] = {}
    deletions: list[str] = []
    for operation in operations:
        key, value = operation["key"], operation["value"]
        path = value["path"]
        match key:
            case "file":
                changes[path] = base64.b64decode(value["content"])
            case "lfsFile":
                stored = repository.lfs_object(value["oid"])
                if not stored.exists():
                    raise Refusal(400, f"{path}: its LFS object was not uploaded")
                changes[path] = Pointer(value["oid"], stored.stat().st_size).text
            case "deletedFile" | "deletedFolder":
                within = f"{path.rstrip('/')}/"
                doomed = [e.path for e in repository.entries(head) if not e.is_folder and f"{e.path}/".startswith(within)]
                if not doomed:
                    raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
                deletions += doomed
    return changes, deletions
