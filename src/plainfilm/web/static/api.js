// Questions to the service. A token is kept for as long as the page is open, and nowhere else.

const RETRIES = 8;
let token = new URLSearchParams(location.hash.slice(1)).get("token") || "";
if (token) history.replaceState(null, "", location.pathname);

export class Fault extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

export function useToken(given) {
  token = given;
}

export const ask = (path) => fetched(path, {});

// Images to a route. Their names stay here: the service is told none.
export function send(path, images) {
  const body = new FormData();
  for (const image of images) body.append("image", image, "image");
  return fetched(path, { method: "POST", body });
}

async function fetched(path, options, tried = 0) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Fault(0, "NO_ANSWER", "The service does not answer. Is it still running?");
  }
  if (response.ok) return response.json();
  if (response.status === 503 && tried < RETRIES) {
    await new Promise((done) => setTimeout(done, 1000 * Number(response.headers.get("retry-after") || 1)));
    return fetched(path, options, tried + 1);
  }
  const { code, detail } = await response.json().catch(() => ({ code: "NO_ANSWER", detail: response.statusText }));
  throw new Fault(response.status, code, detail);
}
