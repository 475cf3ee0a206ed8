/* The site's search runs in a Worker, which browsers refuse to pages of a folder (file://). There a hidden frame runs
   the same script; events carry the messages, both ways. A page from a server keeps the browser's Worker. */
"use strict";

if (location.protocol === "file:") {
  const page = (script) => `<!DOCTYPE html><body><script>
    self.postMessage = (data) => frameElement.dispatchEvent(new MessageEvent("message", { data }));
    self.importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((loaded, failed) => {
      const element = document.createElement("script");
      Object.assign(element, { src: url, onload: loaded, onerror: failed });
      document.body.append(element);
    })), Promise.resolve());
  <\/script><script src="${script}"><\/script>`;

  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = page(new URL(url, location));
      this.ready = new Promise((loaded) => this.frame.addEventListener("load", loaded));
      this.frame.addEventListener("message", ({ data }) => this.dispatchEvent(new MessageEvent("message", { data })));
      document.body.append(this.frame);
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
