import "./content-policy.ts";
import "uplot/dist/uPlot.min.css";
import "./styles/tokens.css";
import "./styles/layout.css";
import "./styles/tables.css";
import "./styles/job.css";
import "./styles/figures.css";
import { render } from "preact";
import { App } from "./app.tsx";
import { createClient } from "./client.ts";

// The page is served at the root of the coordinator's HTTP address, or below a path of a reverse proxy.
const client = createClient(new URL("./", document.baseURI).href, (url) =>
  location.replace(new URL(location.hash, url)),
);
render(<App client={client} />, document.querySelector("#app")!);
