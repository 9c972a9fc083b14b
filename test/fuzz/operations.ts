/** The operations of an OpenAPI document, as far as requests are made from it and replies are held against it. */
export interface Schema {
  readonly [keyword: string]: unknown;
}

export interface Parameter {
  readonly in: 'path' | 'query' | 'header';
  readonly name: string;
  readonly required?: boolean;
  readonly schema: Schema;
}

export interface Operation {
  readonly id: string;
  /** In capitals. */
  readonly method: string;
  /** The path, with `{name}` for each of its parameters. */
  readonly template: string;
  readonly parameters: readonly Parameter[];
  /** What a body can be, by content type. */
  readonly bodies: ReadonlyMap<string, Schema>;
  /** What each status means, in Markdown: of a problem, its codes. */
  readonly responses: ReadonlyMap<number, string>;
}

interface OperationObject {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, { readonly description: string }>>;
}

export interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

export function operationsOf({ paths }: Document): Operation[] {
  return Object.entries(paths).flatMap(([template, methods]) =>
    Object.entries(methods).map(([method, { operationId, parameters = [], requestBody, responses }]) => ({
      id: operationId,
      method: method.toUpperCase(),
      template,
      parameters,
      bodies: new Map(Object.entries(requestBody?.content ?? {}).map(([type, { schema }]) => [type, schema])),
      responses: new Map(Object.entries(responses).map(([status, { description }]) => [Number(status), description])),
    })),
  );
}

export function referenced(schema: Schema): string | undefined {
  const reference = schema.$ref as string | undefined;
  return reference?.slice('#/components/schemas/'.length);
}
