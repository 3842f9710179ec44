import { expect, test } from "vitest";
import { PeerTable } from "../../../coordinator/peers.ts";
import { ReportFilter } from "../../../coordinator/report-filter.ts";
import { systemClock } from "../../../protocol/ports.ts";
import { exampleHello } from "../../fixtures/messages.ts";

const { peerId, incarnation: life } = exampleHello(1);

test("each report passes once, and again as long as it was not decided on", () => {
  const peers = new PeerTable(systemClock);
  peers.admit(exampleHello(1), ["worker"]);
  const filter = new ReportFilter(peers);
  expect(filter.isNews(peerId, { life, sequence: 1 })).toBe(true);
  expect(filter.isNews(peerId, { life, sequence: 1 })).toBe(true);
  filter.took(peerId, { life, sequence: 1 });
  expect(filter.isNews(peerId, { life, sequence: 1 })).toBe(false);
  expect(filter.isNews(peerId, { life, sequence: 2 })).toBe(true);
});

test("the late words of an earlier life are dropped; a new life counts from the beginning", () => {
  const peers = new PeerTable(systemClock);
  peers.admit(exampleHello(1), ["worker"]);
  const filter = new ReportFilter(peers);
  filter.took(peerId, { life, sequence: 7 });
  peers.admit({ ...exampleHello(1), incarnation: "another" }, ["worker"]);
  expect(filter.isNews(peerId, { life, sequence: 8 })).toBe(false);
  expect(filter.isNews(peerId, { life: "another", sequence: 1 })).toBe(true);
});

test("before a peer has joined a new coordinator it is believed", () => {
  const filter = new ReportFilter(new PeerTable(systemClock));
  expect(filter.isNews(peerId, { life, sequence: 7 })).toBe(true);
});

test("of a peer that is gone nothing is kept", () => {
  const peers = new PeerTable(systemClock);
  peers.admit(exampleHello(1), ["worker"]);
  const filter = new ReportFilter(peers);
  filter.took(peerId, { life, sequence: 7 });
  filter.forget(peerId);
  expect(filter.isNews(peerId, { life, sequence: 7 })).toBe(true);
});
