"""The web page in a browser, as a doctor uses it: with a mouse, with keys alone, on a phone, in the dark."""

import io
import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vizecg.serve.problems import Refused
from vizecg.serve.schemas import NOTICE, PredictResponse

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: it is in the dev extra")
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe is not installed: it is in the dev extra"
)
expect = sync_api.expect
expect.set_options(timeout=20_000)  # Browser and server share the machine with whoever else is testing.
STUB = runpy.run_path(str(Path(__file__).with_name("page_stub.py")))
PageStub, serving, TABLE = STUB["PageStub"], STUB["serving"], STUB["TABLE"]

Page = Any
Open = Callable[..., Page]
File = dict[str, Any]

SURE, OVER, UNDER = "Atrial fibrillation", "Left bundle branch block", "Right bundle branch block"
AXE_RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
BUSY = Refused(503, "busy", "32 requests are in work here; try again in a second.")
DROP = """({name, type, bytes, kind}) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], name, {type}));
    const event = kind === "paste" ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true})
        : new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
    document.body.dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def running_stub() -> Iterator[tuple[Any, str]]:
    stub = PageStub()
    with serving(stub) as url:
        yield stub, url


@pytest.fixture
def stub(running_stub: tuple[Any, str]) -> Any:
    """What answers, fresh for every test."""
    stub, _ = running_stub
    vars(stub).update(vars(PageStub()))
    return stub


@pytest.fixture
def open_page(browser: Any, stub: Any, running_stub: tuple[Any, str]) -> Iterator[Open]:
    """Opens the page in a context of its own; whatever a test does, no request leaves and no error is logged."""
    contexts: list[Any] = []
    wrong: list[str] = []
    _, url = running_stub

    def open_one(**options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: wrong.append(request.url) if not _is_own(request.url, url) else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        # What a refused picture leaves in the console is the browser's own note of the status.
        page.on("console", lambda line: wrong.append(line.text) if _is_complaint(line) else None)
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert wrong == []


def _is_own(address: str, url: str) -> bool:
    return address.startswith((url, "data:", f"blob:{url}"))


def _is_complaint(line: Any) -> bool:
    return line.type in ("error", "warning") and not line.text.startswith("Failed to load resource")


@pytest.fixture
def page(open_page: Open) -> Page:
    return open_page()


@pytest.fixture(scope="module")
def picture(pages: list[bytes]) -> File:
    return {"name": "ward 3.png", "mimeType": "image/png", "buffer": pages[0]}


@pytest.fixture(scope="module")
def upside_down(pages: list[bytes]) -> File:
    return _file("upside-down.png", Image.open(io.BytesIO(pages[0])).rotate(180))


@pytest.fixture(scope="module")
def document(pages: list[bytes]) -> File:
    """A PDF that opens with an empty page."""
    first, *others = [Image.open(io.BytesIO(data)).convert("RGB") for data in pages[:2]]
    empty = Image.new("RGB", first.size, "white")
    return _file("letter.pdf", empty, save_all=True, append_images=[first, *others])


def _file(name: str, image: Any, **options: Any) -> File:
    written = io.BytesIO()
    image.save(written, name.rpartition(".")[2].upper(), **options)
    return {
        "name": name,
        "mimeType": "image/png" if name.endswith("png") else "application/pdf",
        "buffer": written.getvalue(),
    }


def choose(page: Page, file: File) -> None:
    page.set_input_files("#file", file)


def read(page: Page, file: File) -> None:
    choose(page, file)
    expect(page.locator("#result")).to_be_visible()


def label(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name).and_(page.locator(".label"))


def shown_size(page: Page) -> tuple[int, int]:
    """Of the picture on the page, in its own pixels."""
    # Not wait_for_function: its code is evaluated anew while it waits, which the page's security policy forbids.
    expect(page.locator("#picture")).to_have_js_property("complete", True)
    return tuple(page.evaluate("(p => [p.naturalWidth, p.naturalHeight])(document.getElementById('picture'))"))


def put(page: Page, file: File, kind: str) -> None:
    """Drop or paste."""
    page.evaluate(DROP, {"name": file["name"], "type": file["mimeType"], "bytes": [*file["buffer"]], "kind": kind})


@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
def test_a_picture_is_read_however_it_comes(page: Page, picture: File, way: str):
    if way == "choose":
        choose(page, picture)
    else:
        put(page, picture | ({"name": "image.png"} if way == "paste" else {}), way)
    expect(page.get_by_role("status").filter(has_text="Positive")).to_contain_text(f"Positive: {SURE}.")
    expect(page.locator("#caption")).to_contain_text("Pasted picture" if way == "paste" else "ward 3.png")
    names = page.locator("#labels .name").all_inner_texts()
    assert names[:3] == [SURE, OVER, UNDER]
    assert sorted(names) == sorted(row[1] for row in TABLE)


def test_a_label_says_where_it_stands(page: Page, picture: File):
    read(page, picture)
    assert label(page, SURE).inner_text().split("\n")[:3] == [SURE, "positive", "87 %"]
    expect(label(page, SURE)).to_have_accessible_name("Atrial fibrillation positive 87 % , threshold 42 %")
    expect(label(page, OVER)).to_contain_text("uncertain: just over")
    expect(label(page, UNDER)).to_contain_text("uncertain: just under")
    expect(label(page, "Sinus rhythm").locator(".chip")).to_have_count(0)
    # The bar ends at the probability and its mark stands at the threshold, to half a percent of its length.
    bar, mark = (label(page, "Sinus tachycardia").locator(part).bounding_box() for part in (".fill", ".threshold"))
    whole = label(page, "Sinus tachycardia").locator(".bar").bounding_box()
    assert bar["width"] / whole["width"] == pytest.approx(0.118, abs=0.005)
    assert (mark["x"] + mark["width"] / 2 - whole["x"]) / whole["width"] == pytest.approx(0.36, abs=0.005)


def test_probabilities_that_differ_look_different(page: Page, picture: File, stub: Any):
    stub.table = (
        ("A", "A", "1", 0.4012, 0.404, False),
        ("B", "B", "2", 0.00001, 0.5, False),
        ("C", "C", "3", 0.9999, 0.5, False),
    )
    read(page, picture)
    said = page.locator("#labels .row").all_inner_texts()
    assert ["".join(row.split()) for row in said] == [
        "Cpositive>99.9%≥,threshold50%",
        "A40.12%<,threshold40.40%",
        "B<0.1%<,threshold50%",
    ]


def test_many_labels_fold(page: Page, picture: File, stub: Any):
    stub.table = tuple((f"L{n}", f"Label {n}", str(n), n / 100, 0.9, False) for n in range(71))
    read(page, picture)
    expect(page.locator("#labels > li")).to_have_count(10)
    expect(page.locator("[data-key=L3]")).to_be_hidden()
    page.get_by_text("61 more below their thresholds").click()
    expect(page.locator("[data-key=L3]")).to_be_visible()


def test_the_page_is_shown_upright(page: Page, upside_down: File):
    read(page, upside_down)
    expect(page.get_by_role("img", name="The page as the model saw it")).to_be_visible()
    assert shown_size(page) == (512, 384)
    expect(page.locator("#warnings")).to_contain_text("turned by 180° to stand upright")
    page.get_by_role("radio", name="As sent").check()
    expect(page.get_by_role("img", name="The page as it was sent")).to_be_visible()
    assert shown_size(page) == (800, 600)


def test_it_is_said_whose_thresholds_they_are(page: Page, picture: File, stub: Any):
    legend = page.get_by_role("list", name="Legend of the bars")
    read(page, picture)
    expect(legend).to_contain_text("threshold, chosen on validation data")
    stub.set_here = ("AF", "ST")
    choose(page, picture)
    expect(legend).to_contain_text("threshold, set by whoever runs this endpoint for")
    expect(legend).to_contain_text("Sinus tachycardia")
    stub.set_here = tuple(row[0] for row in TABLE)
    choose(page, picture)
    expect(legend).to_contain_text("threshold, set by whoever runs this endpoint reaches it")


def test_warnings_are_sentences(page: Page, picture: File, stub: Any):
    stub.warnings = (("blurred", "The picture is <b>blurred</b>."),)
    read(page, picture)
    expect(page.locator("#warnings .warning")).to_have_text(["The picture is <b>blurred</b>."])
    expect(page.locator("#status")).to_contain_text(
        f"Uncertain, too near to the threshold to decide: {OVER} (just over), {UNDER} (just under)."
    )


def test_highlights_come_and_go(page: Page, picture: File, stub: Any):
    read(page, picture)
    upright = page.locator("#picture").get_attribute("src")
    assert [asked.explain for asked in stub.asked] == [()]
    page.get_by_role("radio", name="Highlights").check()
    expect(label(page, SURE)).to_have_attribute("aria-pressed", "true")
    assert stub.asked[-1].explain == ("top",)
    label(page, "Sinus tachycardia").click()
    expect(page.get_by_role("img", name="what speaks for Sinus tachycardia")).to_be_visible()
    expect(page.locator("#view-note")).to_contain_text("not whether it is right")
    expect(label(page, SURE)).to_have_attribute("aria-pressed", "false")
    label(page, SURE).click()
    expect(page.get_by_role("img", name=f"what speaks for {SURE}")).to_be_visible()
    assert [asked.explain for asked in stub.asked] == [(), ("top",), ("ST",)]  # What is known is not asked again.
    label(page, SURE).click()
    expect(label(page, SURE)).to_have_attribute("aria-pressed", "false")
    assert page.locator("#picture").get_attribute("src") == upright


def test_highlights_may_fail_without_loss(page: Page, picture: File, stub: Any):
    read(page, picture)
    stub.refusal = BUSY
    label(page, SURE).click()
    expect(page.locator("#view-note")).to_contain_text("No highlights: 32 requests are in work")
    expect(page.get_by_role("radio", name="As read")).to_be_checked()
    expect(page.locator("#result")).to_be_visible()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (_file("grey.png", Image.effect_noise((600, 400), 60)), ["does not look like a page", "Send one whole page"]),
        (
            {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Dear colleague"},
            ["not a PNG", "or a PDF of the page"],
        ),
        ({"name": "none.png", "mimeType": "image/png", "buffer": b""}, ["no bytes", "choose another"]),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_a_refusal_comes_with_advice(page: Page, file: File, said: list[str]):
    choose(page, file)
    for text in ["This picture was not read.", *said, "Request "]:
        expect(page.get_by_role("alert")).to_contain_text(text)
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("#history")).to_be_hidden()


def test_a_busy_server_is_asked_again(page: Page, picture: File, stub: Any):
    stub.refusal = BUSY
    choose(page, picture)
    expect(page.get_by_role("alert")).to_contain_text("Try again in a moment.")
    stub.refusal = None
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#result")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "reading"


def test_a_lost_connection_is_told(page: Page, picture: File):
    page.route("**/v1/predict*", lambda route: route.abort())
    choose(page, picture)
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached. Is it still running")


def test_a_newer_picture_takes_the_place(page: Page, picture: File, upside_down: File, stub: Any):
    stub.delay_s = 0.4
    choose(page, picture)
    expect(page.get_by_role("status").filter(has_text="Reading")).to_be_visible()
    read(page, upside_down)
    page.wait_for_timeout(600)
    expect(page.locator("#caption")).to_contain_text("upside-down.png")
    expect(page.locator(".card")).to_have_count(1)


def test_a_document_is_paged_through(page: Page, document: File, stub: Any):
    choose(page, document)
    expect(page.get_by_role("alert")).to_contain_text("does not look like")
    page.get_by_role("button", name="Next page").click()
    expect(page.get_by_text("of 3", exact=True)).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "page-after"
    expect(page.get_by_role("radio", name="As sent")).to_be_hidden()  # No browser shows a PDF as a picture.
    page.get_by_role("spinbutton", name="Page").fill("3")
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_role("button", name="Next page")).to_have_attribute("aria-disabled", "true")
    page.get_by_role("button", name="Next page").press("Enter")
    assert [asked.page for asked in stub.asked] == [1, 2, 3]
    label(page, SURE).click()
    expect(label(page, SURE)).to_have_attribute("aria-pressed", "true")
    assert stub.asked[-1].page == 3


def test_a_model_can_be_chosen(open_page: Open, picture: File, stub: Any):
    expect(open_page().get_by_label("Model")).to_be_hidden()
    stub.models_served = ("default", "children")
    page = open_page()
    read(page, picture)
    page.get_by_label("Model").select_option("children")
    expect(page.locator("#facts")).to_contain_text("children, bundle")
    page.get_by_role("button", name="ward 3.png").last.click()
    expect(page.get_by_label("Model")).to_have_value("default")


def test_history_opens_and_is_cleared(page: Page, picture: File, upside_down: File, stub: Any):
    read(page, picture)
    stub.table = TABLE[:2]
    read(page, upside_down)
    cards = page.locator(".card")
    expect(cards).to_have_count(2)
    expect(cards.first).to_have_attribute("aria-current", "true")
    expect(cards.first).to_contain_text("Nothing clearly positive")
    expect(page.locator("canvas.thumbnail")).to_have_count(2)
    asked = len(stub.asked)
    cards.last.click()
    expect(cards.last).to_have_attribute("aria-current", "true")
    expect(page.locator("#status")).to_contain_text(SURE)
    expect(page.locator("#caption")).to_contain_text("ward 3.png")
    assert len(stub.asked) == asked
    page.get_by_role("button", name="Clear all readings").click()
    for part in ("#history", "#result", "#figure"):
        expect(page.locator(part)).to_be_hidden()
    assert SURE not in page.locator("body").inner_text()
    assert page.evaluate("document.activeElement.id") == "file"


def test_nothing_is_kept(page: Page, picture: File):
    read(page, picture)
    left = (
        "indexedDB.databases().then(all => [localStorage.length, sessionStorage.length, document.cookie, all.length])"
    )
    assert page.evaluate(left) == [0, 0, "", 0]
    page.reload()
    expect(page.locator("#history")).to_be_hidden()
    expect(page.locator("#result")).to_be_hidden()


def test_a_key_is_asked_for(open_page: Open, picture: File, stub: Any):
    stub.key = "viz_abc"
    page = open_page()
    dialog = page.get_by_role("dialog", name="API key")
    key = dialog.get_by_label("Key")
    expect(key).to_be_focused()
    expect(key).to_have_attribute("type", "password")
    key.fill("wrong")
    key.press("Enter")
    expect(dialog).to_contain_text("This API key is not known here.")
    page.keyboard.press("Escape")
    choose(page, picture)
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("Enter the API key that you were given.")
    page.get_by_role("button", name="Enter the API key").click()
    key.fill("viz_abc")
    dialog.get_by_role("button", name="Use this key").click()
    expect(page.locator("#result")).to_be_visible()
    assert page.evaluate("[localStorage.length, Object.values(sessionStorage)]") == [0, ["viz_abc"]]
    page.reload()
    read(page, picture)
    page.get_by_role("button", name="API key…").click()
    dialog.get_by_role("button", name="Forget it").click()
    assert page.evaluate("sessionStorage.length") == 0


def test_keys_alone_are_enough(page: Page, picture: File, stub: Any):
    def tab_to(wanted: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                """() => { const e = document.activeElement, around = e.closest("label") ?? e;
                const seen = [e, around, ...around.querySelectorAll("span")].some(
                    part => getComputedStyle(part).outlineStyle === "solid");
                return [e.id || e.dataset.key || e.value || e.className, seen]; }"""
            )
            order.append(focused[0])
            assert focused[1], f"{focused[0]} has the focus and does not show it"
            if focused[0] == wanted:
                return
        raise AssertionError(f"{wanted} cannot be reached: {order}")

    order: list[str] = []
    tab_to("file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(picture)
    expect(page.locator("#result")).to_be_visible()
    tab_to("AF")
    assert order == ["skip", "file", "straighten", "read", "enlarge", "AF"]
    page.keyboard.press("Space")
    expect(page.get_by_role("radio", name="Highlights")).to_be_checked()
    page.locator("#views").get_by_role("radio", name="Highlights").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("img", name="as it was sent")).to_be_visible()
    tab_to("clear")
    page.keyboard.press("Enter")
    expect(page.locator("#history")).to_be_hidden()
    page.evaluate("document.activeElement.blur()")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "reading"


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing(open_page: Open, picture: File, stub: Any, colours: str):
    # Colours are all that differs in the dark.
    wanted = AXE_RULES if colours == "light" else {"type": "rule", "values": ["color-contrast"]}

    def complaints() -> list[str]:
        found = axe.Axe().run(page, options={"runOnly": wanted, "resultTypes": ["violations"]}).response["violations"]
        return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]

    stub.models_served = ("default", "children")
    stub.warnings = (("blurred", "The picture is blurred."),)
    page = open_page(color_scheme=colours, reduced_motion="reduce")
    assert complaints() == []
    read(page, picture)
    label(page, SURE).click()
    page.get_by_text("Use it from a program").click()
    assert complaints() == []
    stub.refusal = BUSY
    choose(page, picture)
    expect(page.get_by_role("alert")).to_be_visible()
    assert complaints() == []
    stub.key = "viz_abc"
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert complaints() == []


def test_dark_is_dark(open_page: Open):
    brightness = """() => ["backgroundColor", "color"].map(
        name => getComputedStyle(document.body)[name].match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 765)"""
    ground, ink = open_page(color_scheme="light").evaluate(brightness)
    assert ground > 0.9 and ink < 0.2
    ground, ink = open_page(color_scheme="dark").evaluate(brightness)
    assert ground < 0.15 and ink > 0.85


def test_a_phone_takes_pictures(open_page: Open, pages: list[bytes], stub: Any):
    stub.models_served = ("default", "a-model-with-a-name-that-is-as-long-as-names-may-be-64-letters")
    stub.table = (
        *TABLE,
        ("LONG", "Nonspecificintraventricularconductiondisorder of unusual length", "1", 0.7, 0.6, False),
    )
    stub.warnings = (("blurred", "https://unbroken.example/" + "x" * 80),)
    page = open_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True, device_scale_factor=2)
    expect(page.get_by_text("Take a picture")).to_be_visible()
    expect(page.locator("#camera")).to_have_attribute("capture", "environment")
    page.set_input_files("#camera", {"name": f"{'IMG_' * 20}.png", "mimeType": "image/png", "buffer": pages[1]})
    expect(page.locator("#result")).to_be_visible()
    assert stub.asked[-1].rectify
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    heights = (
        "[...document.querySelectorAll('button, .camera, .drop')].map(button => button.offsetHeight).filter(Boolean)"
    )
    assert min(page.evaluate(heights)) >= 36


def test_a_desk_offers_no_camera(page: Page):
    expect(page.locator("#camera")).to_be_hidden()


def test_the_notice_stays_in_sight(page: Page, picture: File):
    read(page, picture)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    notice = page.get_by_role("complementary", name="Notice")
    expect(notice).to_have_text(NOTICE.replace("For research", "Research"))
    expect(notice).to_be_in_viewport(ratio=1)


def test_the_answer_can_be_saved_and_printed(page: Page, picture: File):
    read(page, picture)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    assert download.value.suggested_filename == "vizecg-ward-3.json"
    answer = PredictResponse.model_validate(json.loads(download.value.path().read_text()))
    assert [finding.key for finding in answer.findings] == ["AF", "LBBB"]
    page.evaluate("window.print = () => { window.printed = true; }")
    page.get_by_role("button", name="Print").click()
    assert page.evaluate("window.printed")
    page.emulate_media(media="print", color_scheme="dark")
    for part in ("#drop", ".toolbar", "#save", "#history", "footer"):
        expect(page.locator(part)).to_be_hidden()
    for part in (".notice", "#picture", "#status", "#labels", "#facts"):
        expect(page.locator(part)).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_foreign_words_are_text(page: Page, picture: File, stub: Any):
    stub.table = (("X", "<img src=x onerror=alert(1)>", "1", 0.9, 0.5, False),)
    read(page, picture | {"name": "<img src=x onerror=alert(1)>.png"})
    expect(page.locator("img")).to_have_count(1)
    expect(page.locator("#status")).to_contain_text("<img src=x onerror=alert(1)>")
