// What was dropped or chosen, as a flat list of files; hidden files are left out.

const MOST = 500;

export const usable = (files) => [...files].filter((file) => file.size && !file.name.startsWith(".")).slice(0, MOST);

export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return usable(transfer.files);
  const found = [];
  for (const entry of entries) await gather(entry, found);
  return usable(found);
}

async function gather(entry, found) {
  if (found.length >= MOST || entry.name.startsWith(".")) return;
  if (entry.isFile) {
    found.push(await new Promise((done, fail) => entry.file(done, fail)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) return;
    for (const inner of some.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })))
      await gather(inner, found);
  }
}
