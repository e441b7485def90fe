// A client of an event stream: `node clients.mjs NAME URL`.
//
// Out, one a line: [type, data] of each event that it gets, with no more than the beginning of data.
// It ends when the client has given up for good.

import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource } from "eventsource";
import polyfill from "event-source-polyfill";
import launchdarkly from "launchdarkly-eventsource";
import { EventSource as UndiciEventSource } from "undici";

const CLOSED = 2;
const TYPES = ["tick", "stream-reset"];

function tell(type, data) {
  console.log(JSON.stringify([type, data.slice(0, 80)]));
}

// Each of them is used as a browser's own EventSource is.
function listen(source) {
  for (const type of TYPES) source.addEventListener(type, ({ data }) => tell(type, data));
  source.onerror = () => {}; // Without a listener, an `error` of some ends the process.
  setInterval(() => source.readyState === CLOSED && process.exit(), 20);
}

// It is made for pages, and by default comes back only after an error.
function listenByFetch(url) {
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  fetchEventSource(url, {
    onmessage({ event, data }) {
      if (TYPES.includes(event)) tell(event, data);
    },
    onclose() {
      throw new Error("the stream has ended");
    },
  });
}

const CLIENTS = {
  eventsource: (url) => listen(new EventSource(url)),
  "event-source-polyfill": (url) => listen(new polyfill.EventSourcePolyfill(url)),
  "launchdarkly-eventsource": (url) => listen(new launchdarkly.EventSource(url)),
  undici: (url) => listen(new UndiciEventSource(url)),
  "@microsoft/fetch-event-source": listenByFetch,
};

const [name, url] = process.argv.slice(2);
CLIENTS[name](url);
