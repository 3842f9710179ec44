import { defineConfig } from "vite";

export default defineConfig({
  // Relative, so that the page also works below a path of a reverse proxy.
  base: "./",
  build: {
    outDir: "dist",
    target: "es2022",
    // A data: URI would break the strict content security policy that the page is served under.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
});
