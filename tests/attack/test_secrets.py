"""Secrets: passwords in addresses are sent and never shown, and the token goes to the endpoint's host alone."""

from __future__ import annotations

import base64
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest
from huggingface_hub.utils import _http as http

from deepcr_zoo import locations
from deepcr_zoo.archive.listing import query_of
from deepcr_zoo.archive.mast import Archive
from deepcr_zoo.cli.cluster import on_scheduler
from deepcr_zoo.cli.main import main
from deepcr_zoo.cli.options import refuse_secrets, this_command
from deepcr_zoo.dataset import visits
from deepcr_zoo.errors import DeepcrZooError, HubUnreachableError, InvalidDocumentError, SourceWarning, UsageError
from deepcr_zoo.publishing.upload import upload
from deepcr_zoo.zoo import registries
from deepcr_zoo.zoo.hub import connection, guard, repositories
from deepcr_zoo.zoo.hub.repositories import HubRepository, whoami
from deepcr_zoo.zoo.networksettings import address_of, with_settings, without_passwords
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.resolving import find_model
from deepcr_zoo.zoo.sources import pull_resolved
from tests.clusters import wait_for
from tests.publishing.releases import REPOSITORY
from tests.zoo.hub import faults
from tests.zoo.hub.server import serve

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

LOGINS = ["user:secret", "user:se@cret", "user:se%2Fcret", "user:pa/secret", "secret"]


@pytest.fixture
def elsewhere(tmp_path):
    """Another host, which collects tokens."""
    with serve(tmp_path / "elsewhere") as server:
        yield server


def with_login(url, login):
    return url.replace("://", f"://{login}@")


# Passwords in addresses


@pytest.mark.parametrize("login", LOGINS)
def test_a_password_of_the_endpoint_is_in_no_error_and_no_log(contract_hub, monkeypatch, caplog, capfd, login):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_ENDPOINT", with_login(contract_hub.url, login))
    contract_hub.inject(faults.unavailable, where="/", times=2)  # the client logs the addresses of what it repeats
    shown = []
    for ask in (HubRepository("deepcr-zoo/registry").head, HubRepository("deepcr-zoo/registry").commits):
        with pytest.raises(DeepcrZooError) as error:
            ask()
        shown.append(str(error.value))
    assert contract_hub.log, "nothing was asked"
    assert "secret" not in "".join([*shown, caplog.text, *capfd.readouterr()]).replace("test_secrets", "")


@pytest.mark.parametrize("login", LOGINS)
def test_a_password_of_the_archive_is_in_no_error_and_no_log(empty_archive, recipe, monkeypatch, caplog, login):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("DEEPCR_ZOO_MAST", with_login(empty_archive.url, login))
    empty_archive.refusals.append((500, None))
    with pytest.raises(DeepcrZooError) as error:
        Archive().search(query_of(recipe))
    assert "answers 500" in str(error.value)
    assert "secret" not in (str(error.value) + caplog.text).replace("test_secrets", "")


def test_the_passwords_are_sent_all_the_same(contract_hub, empty_archive, recipe, monkeypatch):
    asked = []

    def note(handler):
        asked.append(handler.headers["Authorization"])
        return False

    empty_archive.instead = note
    monkeypatch.setenv("DEEPCR_ZOO_MAST", with_login(empty_archive.url, "user:se%2Fcret"))
    Archive().search(query_of(recipe))
    assert set(asked) == {"Basic " + base64.b64encode(b"user:se/cret").decode()}
    monkeypatch.setenv("HF_ENDPOINT", with_login(contract_hub.url, "user:secret"))
    with pytest.raises(DeepcrZooError):
        HubRepository("deepcr-zoo/registry").head()
    assert [request.authorised for request in contract_hub.log] == [True]


def leading(url):
    """Answer each request with a redirect."""

    def redirect(handler):
        handler.send_response(307)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return redirect


def test_a_redirect_of_the_archive_gets_neither_its_password_nor_that_of_another_program(
    empty_archive, recipe, elsewhere, monkeypatch, tmp_path
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login me password n3trc\nmachine 127.0.0.1 login me password n3trc\n")
    monkeypatch.setenv("NETRC", str(netrc))
    empty_archive.instead = leading(elsewhere.url.replace("127.0.0.1", "localhost") + "/api/v0/invoke")
    for address in (with_login(empty_archive.url, "user:secret"), empty_archive.url):
        monkeypatch.setenv("DEEPCR_ZOO_MAST", address)
        with pytest.raises(DeepcrZooError):
            Archive().search(query_of(recipe))
    assert elsewhere.log
    assert not any(request.authorised for request in elsewhere.log)


def test_an_archive_with_https_leads_to_no_address_without_it(empty_archive, recipe, elsewhere, monkeypatch):
    for scheme in ("https:", "HTTPS:"):
        monkeypatch.setenv("DEEPCR_ZOO_MAST", empty_archive.url.replace("http:", scheme))
        with pytest.raises(DeepcrZooError, match="leads to an address without https"):
            Archive()._session.get(f"{elsewhere.url}/api/v0/invoke")
    assert not elsewhere.log


def test_no_level_of_the_log_shows_a_signed_address_of_the_archive(empty_archive, recipe, elsewhere, caplog):
    empty_archive.instead = leading(f"{elsewhere.url}/file?X-Amz-Signature=s1gnature")
    with caplog.at_level(logging.DEBUG), pytest.raises(DeepcrZooError):
        Archive().search(query_of(recipe))
    ours = [one.getMessage() for one in caplog.records if one.name.startswith("urllib3")]
    assert any("/file" in text for text in ours)
    assert not any("s1gnature" in text for text in ours)


def test_a_malformed_header_of_the_archive_is_not_in_the_log(empty_archive, recipe, caplog):
    """urllib3 logs it with a traceback that repeats it."""

    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 500 no\r\nX: a\r\nnone http://me:s3cret@host/?a=s1gnature\r\n\r\n")
        handler.close_connection = True
        return True

    empty_archive.instead = answer
    with caplog.at_level(logging.DEBUG), pytest.raises(DeepcrZooError):
        Archive().search(query_of(recipe))
    assert "Failed to parse headers" in caplog.text
    assert "s3cret" not in caplog.text
    assert "s1gnature" not in caplog.text


def test_a_redirect_to_no_host_is_not_blamed_on_the_proxy(empty_archive, recipe):
    empty_archive.instead = leading("file:///etc/passwd")
    with pytest.raises(DeepcrZooError) as error:
        Archive().search(query_of(recipe))
    assert "cannot be used: No connection adapters were found" in str(error.value)
    assert "SOCKS" not in str(error.value)


def test_a_proxy_that_repeats_the_login_as_a_header_has_it_is_shown_without_it(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pr%2Fxy@proxy:3128")
    encoded = base64.b64encode(b"user:pr/xy").decode()
    assert without_passwords(f"407 need Basic {encoded}") == "407 need Basic ..."


def test_a_reason_of_the_archive_is_shown_without_passwords(empty_archive, recipe, monkeypatch):
    def refuse(handler):
        handler.send_response(500, "bad http://me:s3cret@host/?a=s1gnature")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    empty_archive.instead = refuse
    with pytest.raises(DeepcrZooError, match=r"answers 500 bad http://host/$"):
        Archive().search(query_of(recipe))


def test_a_password_is_not_on_the_terminal(tmp_path):
    script = "from deepcr_zoo.cli.main import main; main()"
    environment = {"HF_ENDPOINT": "http://user:se@cret@127.0.0.1:9", "DEEPCR_ZOO_DATA": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script, "update"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "http://127.0.0.1:9 cannot be used" in " ".join(done.stderr.split())
    assert "cret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see http://user:pw@host/x", "see http://host/x"),
        ("http://host/cards/mask/NAME@1.0", "http://host/cards/mask/NAME@1.0"),
        ("the answer repeats hunter2 alone", "the answer repeats ... alone"),
        ("and http://keeper:hun/ter@host, cut", "and http://host, cut"),
        ("403 for 'https://host/x?Signature=abc#d' see https://y/z?q", "403 for 'https://host/x' see https://y/z"),
    ],
)
def test_a_text_of_a_server_is_shown_without_passwords(monkeypatch, text, shown):
    monkeypatch.setenv("HF_ENDPOINT", "http://user:hunter2@host")
    monkeypatch.setenv("DEEPCR_ZOO_MAST", "http://keeper:hun/ter@host")
    assert without_passwords(text) == shown


@pytest.mark.parametrize(
    "behind",
    ["?token=secret", "/#secret", "/?a=secret@b", "?", "/x?secret#y"],
    ids=["query", "fragment", "at", "empty", "both"],
)
def test_an_address_with_a_query_or_a_fragment_is_refused_and_not_shown(monkeypatch, behind):
    address = f"https://user:secret@host{behind}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("DEEPCR_ZOO_MAST", address)
    for name, ask in (("HF_ENDPOINT", connection.client), ("DEEPCR_ZOO_MAST", Archive)):
        with pytest.raises(DeepcrZooError, match=rf"{name} has a \? or a #: expected an address alone") as error:
            ask()
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("address", ["user:secret@host", "ftp://user:secret@host", "http://user:secret@"])
def test_an_address_that_is_none_is_shown_without_its_password(monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("DEEPCR_ZOO_MAST", address)
    for ask in (connection.client, Archive):
        with pytest.raises(DeepcrZooError, match="expected an address, https://HOST") as error:
            ask()
        assert "secret" not in str(error.value)


def test_an_address_that_cannot_be_a_mirror_is_not_shown(monkeypatch):
    for address in ("https://user:secret@host/x", "s3://bucket?token=secret"):
        with pytest.raises(DeepcrZooError, match=r"(https|s3)://\.\.\.: expected a path or a file:// address") as error:
            locations.directory(address)
        assert "secret" not in str(error.value)
    with pytest.raises(DeepcrZooError, match="expected a file:// address of this machine"):
        locations.directory("file:///data/mirror?version=2")


@pytest.mark.parametrize("field", ["data.files", "build.dark_paste.darks"])
def test_an_address_in_place_of_exposures_is_refused_and_not_shown(field):
    for address in ("https://user:secret@host/night", "s3://bucket?token=secret"):
        with pytest.raises(InvalidDocumentError, match=rf"{field}\.0: expected a folder, .*no address is read") as error:
            read_recipe(find_recipe("wfc3-uvis"), [f"{field}=['{address}']"])
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("variable", ["DEEPCR_ZOO_CACHE", "DEEPCR_ZOO_CONFIG", "DEEPCR_ZOO_DATA", "DEEPCR_ZOO_MIRROR"])
def test_an_address_in_place_of_a_folder_is_not_shown(variable, monkeypatch):
    monkeypatch.setenv(variable, "https://user:secret@host/x")
    asked = {
        "DEEPCR_ZOO_CACHE": locations.cache_root,
        "DEEPCR_ZOO_CONFIG": locations.configuration_file,
        "DEEPCR_ZOO_DATA": locations.user_data_root,
        "DEEPCR_ZOO_MIRROR": locations.mirror_root,
    }
    with pytest.raises(UsageError, match=r"https://\.\.\.: expected a path") as error:
        asked[variable]()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("place", ["root: 'https://me:secret@host/reg'", "root: /tmp, mirror: 'https://me:secret@host/reg'"])
def test_an_address_in_place_of_the_folder_of_a_registry_is_not_shown(place, tmp_path, monkeypatch):
    (tmp_path / "settings.yaml").write_text(
        f"registries: {{keck: {{{place}}}}}\n".replace("/tmp", str(locations.data_root()))
    )
    monkeypatch.setenv("DEEPCR_ZOO_CONFIG", str(tmp_path / "settings.yaml"))
    with pytest.warns(SourceWarning, match=r"the registry 'keck' of the settings is not used: https://\.\.\.: exp") as told:
        registries.other_registries()
    assert not any("secret" in str(one.message) for one in told)


def test_a_proxy_without_a_scheme_is_shown_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "user:secret@proxy:3128")
    assert with_settings("no answer", ()) == "no answer (with HTTPS_PROXY=proxy:3128 in the environment)"


def test_an_address_without_a_login_stays_as_it_is():
    assert address_of("https://host/path/") == address_of("https://host/path")
    assert address_of("https://host").basic is None


# The token


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_write")


def test_the_next_page_of_a_listing_at_another_host_gets_no_token(published, elsewhere, token):
    page = faults.with_headers(Link=f'<{elsewhere.url}/api/models/x/y/commits/main>; rel="next"')
    published.hub.inject(page, where="/commits/")
    with pytest.raises(DeepcrZooError):
        HubRepository(published.pin.repo).commits()
    assert elsewhere.log, "the other page was not asked for"
    assert not any(request.authorised for request in elsewhere.log)


def test_the_headers_of_xet_lead_the_token_nowhere(published, elsewhere, token):
    leading = faults.with_headers(
        X_Xet_Hash="0" * 64, Link=f'<{elsewhere.url}/token>; rel="xet-auth"', X_Xet_Refresh_Route=f"{elsewhere.url}/token"
    )
    published.hub.inject(leading, where="/resolve/")
    assert pull_resolved(published.model).source == "hub"
    assert elsewhere.log == []


def test_the_check_after_an_upload_at_another_host_gets_no_token(contract_hub, elsewhere, token, release):
    def verified_elsewhere(response):
        body = bytes(response.body).replace(
            f"{contract_hub.url}/{REPOSITORY}.git/info/lfs/verify".encode(), f"{elsewhere.url}/verify".encode()
        )
        return faults._with_body(response, body)

    contract_hub.inject(verified_elsewhere, method="POST", where="/info/lfs/objects/batch")
    with pytest.raises(DeepcrZooError):
        upload(release, HubRepository(REPOSITORY))
    assert {request.path for request in elsewhere.log} == {"/verify"}
    assert not any(request.authorised for request in elsewhere.log)


@pytest.mark.slow
def test_a_session_that_is_opened_after_a_refused_connection_gives_no_token_to_another_host(
    contract_hub, elsewhere, token, release
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/put"

    def uploaded_nowhere_and_verified_elsewhere(response):
        body = bytes(response.body).replace(
            f"{contract_hub.url}/{REPOSITORY}.git/info/lfs/verify".encode(), f"{elsewhere.url}/verify".encode()
        )
        return faults._with_body(
            response, re.sub(rb'("upload": ?\{[^}]*?"href": ?")[^"]+', rb"\g<1>" + nobody.encode(), body)
        )

    contract_hub.inject(uploaded_nowhere_and_verified_elsewhere, method="POST", where="/info/lfs/objects/batch")
    with pytest.raises(DeepcrZooError):
        upload(release, HubRepository(REPOSITORY))
    sessions = [http.get_session()]
    http.close_session()
    sessions.append(http.get_session())
    assert sessions[0] is not sessions[1]
    assert all(guard._on_request in one.event_hooks["request"] for one in sessions)
    assert all(guard._on_response in one.event_hooks["response"] for one in sessions)
    assert not any(request.authorised for request in elsewhere.log)


def test_the_same_name_at_another_port_is_another_host(contract_hub, elsewhere, token):
    contract_hub.inject(faults.redirected(f"{elsewhere.url}/api/whoami-v2"), where="/whoami")
    with pytest.raises(DeepcrZooError):
        whoami()
    assert elsewhere.log
    assert not any(request.authorised for request in elsewhere.log)


def test_a_warning_of_the_hub_is_not_logged(contract_hub, token, caplog, capfd):
    def warned(response):
        response.headers["X-HF-Warning"] = "evil; evil hf_write"
        return response

    connection.client()  # the client has its loggers by now
    logging.getLogger("huggingface_hub").addHandler(caplog.handler)
    contract_hub.inject(warned, where="/whoami")
    whoami()
    logging.getLogger("huggingface_hub").removeHandler(caplog.handler)
    assert contract_hub.log
    assert "evil" not in caplog.text + "".join(capfd.readouterr())


def test_a_warning_of_the_hub_that_repeats_the_token_is_shown_without_it(contract_hub, token, release, capfd):
    """The client warns of what the Hub's check of a page's metadata answers."""
    from deepcr_zoo.cli.main import _warnings_as_messages

    def repeating(response):
        return faults._with_body(response, b'{"warnings": [{"message": "odd: Bearer hf_write"}], "errors": []}')

    contract_hub.inject(repeating, method="POST", where="/validate-yaml")
    with _warnings_as_messages():
        upload(release, HubRepository(REPOSITORY))
    shown = "".join(capfd.readouterr())
    assert "odd: Bearer ..." in shown
    assert "hf_write" not in shown


@pytest.mark.parametrize("answer", [faults.unavailable, faults.forbidden, faults.answering(b"no", 400)])
def test_the_signed_address_of_an_upload_is_in_no_error_and_no_log(contract_hub, token, release, capfd, caplog, answer):
    """Whoever reads the log of a pipeline could write to the storage for as long as the signature holds."""
    contract_hub.storage_url = contract_hub.storage_url.replace("http://", "http://me:s3cret@")
    contract_hub.inject(signed, method="POST", where="/info/lfs/objects/batch")
    contract_hub.inject(answer, method="PUT", times=1 if answer is faults.unavailable else 9)
    shown = str(outcome(lambda: upload(release, HubRepository(REPOSITORY)))) + "".join(capfd.readouterr()) + caplog.text
    assert "s1gnature" not in shown
    assert "s3cret" not in shown
    assert "\x9b" not in shown
    assert ("/storage/" in shown) is (answer is faults.unavailable)  # the client logs what it tries again


def test_no_level_of_the_log_shows_a_signed_address(contract_hub, token, release, caplog):
    """As in a program that logs everything."""
    contract_hub.inject(signed, method="POST", where="/info/lfs/objects/batch")
    with caplog.at_level(logging.DEBUG):
        upload(release, HubRepository(REPOSITORY))
    ours = [
        one.getMessage() for one in caplog.records if not one.name.startswith(("uvicorn", "asyncio"))
    ]  # not the server's
    assert any("/storage/" in text for text in ours)
    assert not any("s1gnature" in text for text in ours)


def test_an_upload_whose_command_has_given_up_logs_no_signed_address(contract_hub, token, release, caplog, monkeypatch):
    monkeypatch.setattr(repositories, "QUESTION_S", 4.0)  # the client sends again after 1, 2, 4 and 8 s
    monkeypatch.setattr(repositories, "REPEATS", 0)
    contract_hub.inject(signed, method="POST", where="/info/lfs/objects/batch")
    contract_hub.inject(faults.unavailable, method="PUT")
    connection.client()  # the client has its loggers by now
    logging.getLogger("huggingface_hub").addHandler(caplog.handler)
    try:
        with pytest.raises(HubUnreachableError, match="no answer within"):
            upload(release, HubRepository(REPOSITORY))
        wait_for(lambda: not guard._uploads)  # its threads try again, and end
    finally:
        logging.getLogger("huggingface_hub").removeHandler(caplog.handler)
    assert "/storage/" in caplog.text
    assert "s1gnature" not in caplog.text


@faults.edited
def signed(answer):
    """Addresses with a signature and a control character."""
    for one in answer["objects"]:
        for action in one.get("actions", {}).values():
            if "/storage/" in action["href"]:
                action["href"] += "?X-Amz-Signature=s1gnature\x9b2J"


def outcome(use):
    """What is said of a failure; nothing of a success."""
    try:
        use()
    except DeepcrZooError as error:
        return error


def test_a_session_is_guarded_once_and_other_programs_are_left_alone(contract_hub, elsewhere, token):
    from huggingface_hub import HfApi
    from huggingface_hub.utils import get_session

    connection.client(), connection.client()
    hooks = [hook.__name__ for hook in get_session().event_hooks["request"]]
    assert hooks.count("_on_request") == 1
    assert HfApi(endpoint=elsewhere.url).whoami()["name"] == "keeper"


ADDRESS = "https://me:s3cret@127.0.0.1/x?sig=s3cret"


@pytest.mark.parametrize(
    "use",
    [
        lambda: find_model(ADDRESS),
        lambda: locations.directory(ADDRESS.replace("https", "file")),
        lambda: visits.find_files([ADDRESS], "flc"),
    ],
)
def test_an_address_where_none_is_expected_is_not_shown(use):
    with pytest.raises(DeepcrZooError, match=r"://\.\.\.") as raised:
        use()
    assert "s3cret" not in str(raised.value)


def test_the_command_is_recorded_without_logins(monkeypatch):
    monkeypatch.setattr("sys.argv", ["deepcr-zoo", "train", "r.yaml", "--scheduler", "tls://me:s3cret@host:8786"])
    assert this_command() == "deepcr-zoo train r.yaml --scheduler tls://host:8786"


@pytest.mark.parametrize(
    "argument",
    [
        "https://u:secret@host/x.fits",
        "@s3://u:secret@host/list",
        "https://host/x?sig=secret",
        "data.source=ftp://u:secret@h",
        "https://u:pa/secret@h",
    ],
)
def test_a_command_with_a_secret_in_an_address_is_refused_and_does_not_repeat_it(argument, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for words in (
        ["clean", argument],
        ["recipe", "new", "X-2-4", "--output", argument],
        ["recipe", "check", "--set", argument],
    ):
        monkeypatch.setattr(sys, "argv", ["deepcr-zoo", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        said = "".join(capsys.readouterr())
        assert "://...: no argument may be an address with a name, a password or a query" in said
        assert "secret" not in said
    assert list(tmp_path.iterdir()) == []


def test_addresses_without_secrets_are_arguments_as_before():
    refuse_secrets(
        [
            "file:///data/mirror",
            "file:///data/NAME@1.0",
            "tcp://10.0.0.1:8786",
            "x?.fits",
            "mask/X-2@1.0",
            "data.source=https://a.org/?id=5",
        ]
    )


def test_a_login_in_the_address_of_a_scheduler_is_refused_and_not_shown():
    with pytest.raises(UsageError, match="--scheduler host:8786: expected the address") as error:
        on_scheduler("tcp://user:secret@host:8786")
    assert "secret" not in str(error.value)


# Texts of lists and recipes of others


@pytest.mark.parametrize("address", ["https://u:secret@h.org/x.fits?sig=secret", "https://u:secret@h.org/x.fits[1]"])
@pytest.mark.parametrize("before", ["", "@"])
def test_an_address_in_a_list_is_not_repeated(address, before, tmp_path, capfd, monkeypatch):
    (tmp_path / "list.txt").write_text(before + address)
    monkeypatch.setattr(sys, "argv", ["deepcr-zoo", "clean", f"@{tmp_path / 'list.txt'}"])
    with pytest.raises(SystemExit, match=r"[12]"):
        main()
    shown = "".join(capfd.readouterr())
    assert "https://..." in shown
    assert "secret" not in shown.replace("test_secrets", "")


@pytest.mark.parametrize("place", ["https://u:secret@h.org/x_flc.fits", "https://u:secret@h.org/*.fits"])
def test_an_address_in_the_data_of_a_recipe_is_not_repeated(place, tmp_path):
    with pytest.raises(UsageError) as error:
        visits.find_files(visits.beside(tmp_path, [place]), "flc")
    assert "u:secret" not in str(error.value)
    assert "https://..." in str(error.value)


@pytest.mark.parametrize("line", ["extends: https://u:hunter2@h.org/x.yaml", "name: https://u:hunter2@h.org/x"])
def test_an_address_in_a_recipe_is_not_repeated(line, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"{line}\n")
    with pytest.raises(InvalidDocumentError) as error:
        read_recipe(tmp_path / "mine.yaml")
    assert "https://..." in str(error.value)
    assert "hunter2" not in str(error.value)


SECRETS = {
    "no recipe": "token: hunter2\nother: 1\n",
    "no recipe, but a name": "name: MINE\ntoken: hunter2\n",
    "keys of a recipe": "name: hunter2 hunter2\ndata: {hunter2: hunter2}\ninstrument: {name: hunter2}\n",
    "no mapping": "- hunter2\n",
    "no YAML": "hunter2: hunter2: [\n",
    "twice": "hunter2: 1\nhunter2: 2\n",
    "extends": "extends: hunter2\n",
}


@pytest.mark.parametrize("content", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("way", ["relative", "absolute", "link", "from a base"])
def test_a_recipe_shows_nothing_of_a_file_outside_of_its_folder(way, content, tmp_path):
    secret, folder = tmp_path / "config" / "token.yaml", tmp_path / "recipes"
    for one in (secret.parent, folder):
        one.mkdir()
    secret.write_text(content)
    (folder / "link.yaml").symlink_to(secret)
    (folder / "base.yaml").write_text("extends: ../config/token.yaml\n")
    base = {"relative": "../config/token.yaml", "absolute": secret, "link": "link.yaml", "from a base": "base.yaml"}[way]
    (folder / "mine.yaml").write_text(f"extends: {base}\n")
    with pytest.raises(InvalidDocumentError) as error:
        read_recipe(folder / "mine.yaml")
    assert "its content is not shown, since it lies outside of the recipe's folder" in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("key", ["2019", "on", "2026-01-01", "1.5"])
def test_values_under_keys_that_are_no_texts_in_a_recipe_elsewhere_are_not_repeated(key, tmp_path):
    (tmp_path / "private.yaml").write_text(f"data:\n  {key}: my door code\n  visits: {{{key}: my door code}}\n")
    (tmp_path / "shared").mkdir()
    recipe = tmp_path / "shared" / "r.yaml"
    recipe.write_text("extends: ../private.yaml\nname: X-1-2\ntask: mask\ndata: {source: s}\n")
    with pytest.raises(InvalidDocumentError) as error:
        read_recipe(recipe)
    assert "my door code" not in str(error.value)


def test_a_recipe_of_another_folder_can_be_extended(tmp_path):
    for name, text in {
        "base/one.yaml": "extends: acs-wfc-f606w\n",
        "mine/two.yaml": "extends: ../base/one.yaml\nname: MINE\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    assert read_recipe(tmp_path / "mine" / "two.yaml").name == "MINE"


@pytest.mark.parametrize("password", ["Pa%C3%9Fwort-s3cret", "dom%5Cs3cret", "it%27s-s3cret", "plain-s3cret"])
def test_a_password_of_a_proxy_is_not_shown_as_python_writes_it(password, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://me:{password}@proxy.example:1080")
    for written in (unquote(password), repr(unquote(password)), repr(unquote(password).encode()), password):
        assert "s3cret" not in without_passwords(f"setup_socks5 auth={written} done")


STORED = "[me]\nhf_token = api_org_Sup3rS3cretToken\nrefresh_token = r%3fresh-S3cret\nexpires_at = 1\n"


def test_stored_tokens_of_any_form_are_not_shown_and_the_client_is_not_asked_for_them(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("api_other_Sup3rS3cretToken\n")
    (tmp_path / "stored_tokens").write_text(STORED)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_STORED_TOKENS_PATH", str(tmp_path / "stored_tokens"))
    monkeypatch.setattr("huggingface_hub.get_token", None)
    for secret in ("api_org_Sup3rS3cretToken", "api_other_Sup3rS3cretToken", "r%3fresh-S3cret"):
        assert connection.without_secrets(f"bad token Bearer {secret}") == "bad token Bearer ..."


def test_a_token_with_blanks_around_it_is_hidden_as_it_is_sent(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", " api_org_Sup3rS3cretToken\r\n")
    assert connection.without_secrets("bad token Bearer api_org_Sup3rS3cretToken") == "bad token Bearer ..."


LIMIT = "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))"

DOWNLOAD = """
from deepcr_zoo.cli.console import message
from deepcr_zoo.errors import DeepcrZooError
from deepcr_zoo.zoo.hub.downloads import download_all
from deepcr_zoo.zoo.registry import HubPin

try:
    download_all(HubPin(repo="me/model", commit="0" * 40), {"config.json": 10})
except DeepcrZooError as error:
    message("error", str(error), "error")
"""


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://me:s3cretpw@127.0.0.1:9"])
def test_a_login_that_cannot_be_renewed_ends_in_a_sentence_without_secrets(endpoint, tmp_path):
    """The client renews it while it holds a lock, and logs what fails there."""
    (tmp_path / "token").write_text("api_org_Sup3rS3cretToken")
    (tmp_path / "stored_tokens").write_text(STORED)
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    environment |= {"HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", DOWNLOAD], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "127.0.0.1:9 cannot be used" in done.stderr
    assert "s3cret" not in (done.stdout + done.stderr).lower()


class _Login(BaseHTTPRequestHandler):
    """Answers of a hostile Hub, or of a gateway before it, to a client that renews its login; nothing else is there."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, body))
        status, text = {
            "page": (200, b"<html>portal"),
            "controls": (400, b'{"error": "e", "error_description": "\\u001b[2J done"}'),
            "echo": (400, b'{"error": "%s"}' % body.replace(b'"', b"'")),
            "redirect": (307, b""),
            "endless": (200, b"[" + b"1," * 30_000_000),
        }.get(self.server.kind, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        if status == 307:
            self.send_header("Location", self.server.elsewhere)
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(text)

    def do_GET(self):
        self.send_error(404)

    def log_message(self, *arguments):
        pass


@contextmanager
def login_server(kind, elsewhere=""):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Login) as server:
        server.kind, server.elsewhere, server.seen = kind, elsewhere, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_login_of_a_workflow_that_lacks_its_token_is_a_sentence(monkeypatch):
    monkeypatch.setenv("HF_OIDC_RESOURCE", "me")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(HubUnreachableError, match="cannot be used: HF_OIDC_RESOURCE is set but no OIDC id token"):
        HubRepository("me/model").exists()


@pytest.mark.parametrize("token", ["stored", "of OIDC"])
@pytest.mark.parametrize("kind", ["page", "controls", "echo", "redirect", "endless"])
def test_secrets_of_a_login_that_is_renewed_go_to_the_endpoint_alone(kind, token, tmp_path):
    names = ("HF_TOKEN", "HF_HUB_OFFLINE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    if token == "stored":
        (tmp_path / "token").write_text("api_org_Sup3rS3cretToken")
        (tmp_path / "stored_tokens").write_text(STORED)
    else:
        environment |= {"HF_OIDC_RESOURCE": "me", "HF_OIDC_ID_TOKEN": "r%3fresh-S3cret"}
    environment |= {"HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    with login_server("other") as (other, elsewhere), login_server(kind, f"http://{elsewhere}/stolen") as (server, place):
        environment["HF_ENDPOINT"] = f"http://me:s3cretpw@{place}"
        limited = [sys.executable, "-c", f"import resource\n{LIMIT}\n{DOWNLOAD}"]
        done = subprocess.run(limited, env=environment, capture_output=True, text=True, timeout=100)
    assert [path for path, _ in server.seen[:1]] == ["/oauth/token"]
    assert other.seen == []
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in (done.stdout + done.stderr).lower()
    assert "\x1b" not in done.stdout + done.stderr
