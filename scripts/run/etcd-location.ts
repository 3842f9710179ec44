import { createEtcdClient, type EtcdClient } from "../../coordinator/store/etcd-client.ts";
import { askOverHttp, type EtcdAccess } from "../../coordinator/store/etcd-http.ts";

export interface EtcdLocation {
  readonly endpoints: readonly string[];
  /** Before every key, with a slash at its end. */
  readonly prefix: string;
  /** What is shown to be let in; nothing unless told. */
  readonly access?: EtcdAccess;
}

export const connectEtcd = ({ endpoints, access }: EtcdLocation): EtcdClient =>
  createEtcdClient(endpoints, askOverHttp(access));
