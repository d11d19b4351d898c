// Validates the PodMonitors in a file of manifests against the schema of the Prometheus operator.
import { readFileSync } from "node:fs";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import { parseAllDocuments } from "yaml";

const documents = parseAllDocuments(readFileSync(process.argv[2], "utf8"));
const monitors = documents.map((document) => document.toJS()).filter((one) => one?.kind === "PodMonitor");
if (monitors.length === 0) throw new Error("the manifests have no PodMonitor");
for (const monitor of monitors) new PodMonitor(monitor).validate();
