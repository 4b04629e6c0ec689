"""What every page must be for all readers: names for a screen reader, contrast, nothing beyond the edge."""

from typing import Any

from browser import Page

NAMED_ROLES = {"button", "textbox", "slider", "spinbutton", "combobox", "listbox", "option", "img", "tab", "tabpanel"}
MIN_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, of text of ordinary size

# Colours are drawn on a canvas, as computed styles may be in any colour space.
CONTRASTS = """(() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const painted = (colours) => {
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return context.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (data) => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => {
    const c = data[i] / 255;
    return sum + share * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);
  const style = (node) => getComputedStyle(node);
  const backgrounds = (node) => node ? [...backgrounds(node.parentElement), style(node).backgroundColor] : ["Canvas"];
  const shown = [...document.querySelectorAll("body *")].filter((node) => {
    const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    return text && !node.disabled && node.checkVisibility() && node.getClientRects().length;
  });
  return shown.map((node) => {
    const below = backgrounds(node);
    const colours = [below, [...below, style(node).color]].map((each) => luminance(painted(each)) + 0.05);
    return [Math.max(...colours) / Math.min(...colours), node.tagName, node.className, node.textContent.slice(0, 40)];
  }).filter(([contrast]) => contrast < %f);
})()"""


async def prefer(page: Page, scheme: str) -> None:
    await page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


async def resize(page: Page, width: int, height: int = 900) -> None:
    await page.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
    )


async def awaited(page: Page, script: str) -> Any:
    """Return what a promise brings; fail with its error."""
    answer = await page.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
    assert "exceptionDetails" not in answer, answer["exceptionDetails"]
    return answer["result"].get("value")


async def assert_readable(page: Page, widths: tuple[int, ...] = (320, 1280)) -> None:
    """Every control has a name, every text contrast in both schemes, and nothing is wider than the window."""
    tree = await page.send("Accessibility.getFullAXTree")
    nodes = [node for node in tree["nodes"] if node.get("role", {}).get("value") in NAMED_ROLES and not node["ignored"]]
    assert nodes
    assert [node for node in nodes if not node["name"].get("value", "").strip()] == []
    for scheme in ("light", "dark"):
        await prefer(page, scheme)
        assert await page.value(CONTRASTS % MIN_CONTRAST) == []
    for width in widths:
        await resize(page, width)
        assert await page.value("document.documentElement.scrollWidth") <= width
