import { createApi } from "../../../coordinator/api/app.ts";
import { listenHttp } from "../../../scripts/run/http-listener.ts";
import { CoordinatorBench } from "../../fixtures/coordinator-bench.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { runRingfold } from "./ringfold-process.ts";

/** A coordinator in memory behind its real API, and the real command that speaks with it. */
export async function serveBench() {
  const bench = new CoordinatorBench();
  const coordinator = await bench.start();
  const api = createApi({ coordinator, operatorToken: "token", addresses: () => [], log: silentLog });
  const listener = await listenHttp(api, { host: "127.0.0.1", port: 0 });
  const env = {
    RINGFOLD_COORDINATOR: `http://127.0.0.1:${listener.port}`,
    RINGFOLD_OPERATOR_TOKEN: "token",
  };
  return {
    bench,
    ringfold: (...words: string[]) => runRingfold(words, { env }),
    close: () => listener.close(),
  };
}
