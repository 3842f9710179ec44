import { RingfoldError } from "../../../protocol/errors.ts";

export interface ServerEvent {
  readonly event: string;
  readonly data: string;
  /** Of this event, or of the last one that had one. */
  readonly id: string;
}

/** A cluster of a thousand peers and jobs is about 4 MB as JSON; an event beyond this is no event of ours. */
const eventCharactersMax = 32 * 1024 * 1024;

/**
 * Reads server-sent events from the body of a response. Ends when the body ends; a last event without its blank line
 * is dropped, as the standard asks.
 *
 * @throws RingfoldError MESSAGE_TOO_LARGE, or whatever the body throws
 * Source: WHATWG HTML, "Server-sent events", 9.2.6; the coordinator says no `retry`.
 */
export async function* readEventStream(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  let event = "message";
  let id = "";
  let data: string[] = [];
  let dataCharacters = 0;
  for await (const line of readLines(body)) {
    if (line === "") {
      if (data.length > 0) yield { event, data: data.join("\n"), id };
      event = "message";
      data = [];
      dataCharacters = 0;
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") event = value;
    if (field === "id") id = value;
    if (field === "data") {
      data.push(value);
      dataCharacters += value.length + 1;
      assertBounded(dataCharacters);
    }
  }
}

/** Lines end with LF, CRLF or CR. Pieces of a line wait in a list: joining them once keeps long lines linear. */
async function* readLines(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let pieces: string[] = [];
  let waitingCharacters = 0;
  let afterCarriageReturn = false;
  for await (const bytes of body) {
    let text = decoder.decode(bytes, { stream: true });
    if (text === "") continue;
    if (afterCarriageReturn && text.startsWith("\n")) text = text.slice(1);
    afterCarriageReturn = text.endsWith("\r");
    const lines = text.split(/\r\n|\n|\r/);
    const rest = lines.pop() ?? "";
    for (const line of lines) {
      yield pieces.join("") + line;
      pieces = [];
      waitingCharacters = 0;
    }
    pieces.push(rest);
    waitingCharacters += rest.length;
    assertBounded(waitingCharacters);
  }
}

function assertBounded(characters: number): void {
  if (characters <= eventCharactersMax) return;
  throw new RingfoldError("MESSAGE_TOO_LARGE", `an event of more than ${eventCharactersMax} characters`, {
    charactersMax: eventCharactersMax,
  });
}
