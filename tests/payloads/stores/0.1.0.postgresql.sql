SELECT pg_catalog.set_config('search_path', '', false);
CREATE FUNCTION public.audit_is_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$;
CREATE TABLE public.assessment (
    id text NOT NULL,
    identifier text NOT NULL,
    origin text NOT NULL,
    patient_id text NOT NULL,
    encounter_id text,
    service_id text NOT NULL,
    model text NOT NULL,
    model_version text NOT NULL,
    as_of character varying(27) NOT NULL,
    received_at character varying(27) NOT NULL,
    hook_instance text NOT NULL,
    probability double precision NOT NULL,
    level text NOT NULL,
    inputs json NOT NULL,
    resource json NOT NULL
);
CREATE TABLE public.audit (
    id integer NOT NULL,
    recorded_at character varying(27) NOT NULL,
    outcome text NOT NULL,
    status integer NOT NULL,
    client text,
    tenant text,
    "user" text,
    address text,
    patient_id text,
    hook_instance text,
    service_id text,
    model text,
    model_version text
);
CREATE SEQUENCE public.audit_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.audit_id_seq OWNED BY public.audit.id;
CREATE TABLE public.card (
    uuid text NOT NULL,
    kind text NOT NULL,
    indicator text NOT NULL,
    assessment_id text,
    hook_instance text NOT NULL,
    service_id text NOT NULL,
    issued_at character varying(27) NOT NULL
);
CREATE TABLE public.feedback (
    id integer NOT NULL,
    card text NOT NULL,
    outcome text NOT NULL,
    outcome_timestamp character varying(27) NOT NULL,
    service_id text NOT NULL,
    received_at character varying(27) NOT NULL,
    client text,
    accepted_suggestions json NOT NULL,
    override_reason json,
    user_comment text
);
CREATE SEQUENCE public.feedback_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.feedback_id_seq OWNED BY public.feedback.id;
CREATE TABLE public.outbox (
    id text NOT NULL,
    assessment_id text NOT NULL,
    fhir_base text NOT NULL,
    client text,
    resource json NOT NULL,
    state text NOT NULL,
    attempts integer NOT NULL,
    created_at character varying(27) NOT NULL,
    available_at character varying(27) NOT NULL,
    claim_id text,
    lease_until character varying(27),
    settled_at character varying(27),
    reason text,
    location text,
    version text,
    CONSTRAINT outbox_state_check CHECK ((state = ANY (ARRAY['ready'::text, 'claimed'::text, 'delivered'::text, 'dead'::text])))
);
ALTER TABLE ONLY public.audit ALTER COLUMN id SET DEFAULT nextval('public.audit_id_seq'::regclass);
ALTER TABLE ONLY public.feedback ALTER COLUMN id SET DEFAULT nextval('public.feedback_id_seq'::regclass);
INSERT INTO public.assessment VALUES ('f453324e-f486-4b73-9fab-a8272e50bd4e', '3eff8b3f-c177-4113-9e78-2196324f3e81', 'https://ehr.example.org/fhir', 'p1', NULL, 'diabetes-risk', 'diabetes-undiagnosed', '1.0.0', '2026-03-01T12:01:00.000000Z', '2026-03-01T12:01:00.000000Z', '76531737-f129-48c6-91ca-4dc4edfde416', 0.30000000000000004, 'moderate', '{"glucose":0.30000000000000004,"absent":null,"name":"Zo\u00eb"}', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"3eff8b3f-c177-4113-9e78-2196324f3e81"}],"status":"final"}');
INSERT INTO public.assessment VALUES ('fa749692-f21f-45eb-aed7-8f5d0960afe9', '834c1b69-573a-459a-b55f-2af41757905e', 'https://ehr.example.org/fhir', 'p1', NULL, 'diabetes-risk', 'diabetes-undiagnosed', '1.0.0', '2026-03-01T12:02:00.000000Z', '2026-03-01T12:02:00.000000Z', '25f02628-eb07-430d-9cd5-061c9c5f319e', 0.30000000000000004, 'moderate', '{"glucose":0.5,"absent":null,"name":"Zo\u00eb"}', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"834c1b69-573a-459a-b55f-2af41757905e"}],"status":"final"}');
INSERT INTO public.assessment VALUES ('7bd9e8a1-ff29-4d0e-8f2e-84fcb06dbee0', '14b9adb5-0c6d-4a3d-b85a-5cd22959fea3', 'https://ehr.example.org/fhir', 'Zoë-2', NULL, 'diabetes-risk', 'diabetes-undiagnosed', '1.0.0', '2026-03-01T12:03:00.000000Z', '2026-03-01T12:03:00.000000Z', 'ec717f15-8895-487f-99c4-258bfc985000', 0.30000000000000004, 'moderate', '{"glucose":0.7000000000000001,"absent":null,"name":"Zo\u00eb"}', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"14b9adb5-0c6d-4a3d-b85a-5cd22959fea3"}],"status":"final"}');
INSERT INTO public.assessment VALUES ('558d2adb-7e5a-4930-8d39-e15808606af8', 'fb368220-216d-47a2-b501-e088d6a34d3e', 'https://ehr.example.org/fhir', 'p3', NULL, 'diabetes-risk', 'diabetes-undiagnosed', '1.1.0', '2026-03-01T12:04:00.000000Z', '2026-03-01T12:04:00.000000Z', '21fdac3a-f325-4fbe-9065-6c8fbb4e5c11', 0.30000000000000004, 'moderate', '{"glucose":0.9,"absent":null,"name":"Zo\u00eb"}', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"fb368220-216d-47a2-b501-e088d6a34d3e"}],"status":"final"}');
INSERT INTO public.assessment VALUES ('2b56955d-da2d-4b3d-9ed2-aa0cffd21f09', 'f5cb2afc-741b-424d-85ae-8770f9dba1db', 'https://ehr.example.org/fhir', 'p4', NULL, 'diabetes-risk', 'diabetes-undiagnosed', '1.0.0', '2026-03-01T12:05:00.000000Z', '2026-03-01T12:05:00.000000Z', '5154ef5f-bac0-4757-b057-c1627cf7fcf6', 0.30000000000000004, 'moderate', '{"glucose":1.1,"absent":null,"name":"Zo\u00eb"}', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"f5cb2afc-741b-424d-85ae-8770f9dba1db"}],"status":"final"}');
INSERT INTO public.audit VALUES (1, '2026-03-01T12:01:00.000000Z', 'assessed', 200, NULL, NULL, 'Practitioner/ä', NULL, 'p1', '76531737-f129-48c6-91ca-4dc4edfde416', NULL, NULL, NULL);
INSERT INTO public.audit VALUES (2, '2026-03-01T12:01:00.000000Z', 'assessed', 200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.audit VALUES (3, '2026-03-01T12:02:00.000000Z', 'assessed', 200, NULL, NULL, 'Practitioner/ä', NULL, 'p1', '25f02628-eb07-430d-9cd5-061c9c5f319e', NULL, NULL, NULL);
INSERT INTO public.audit VALUES (4, '2026-03-01T12:02:00.000000Z', 'assessed', 200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.audit VALUES (5, '2026-03-01T12:03:00.000000Z', 'assessed', 200, NULL, NULL, 'Practitioner/ä', NULL, 'Zoë-2', 'ec717f15-8895-487f-99c4-258bfc985000', NULL, NULL, NULL);
INSERT INTO public.audit VALUES (6, '2026-03-01T12:03:00.000000Z', 'assessed', 200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.audit VALUES (7, '2026-03-01T12:04:00.000000Z', 'assessed', 200, NULL, NULL, 'Practitioner/ä', NULL, 'p3', '21fdac3a-f325-4fbe-9065-6c8fbb4e5c11', NULL, NULL, NULL);
INSERT INTO public.audit VALUES (8, '2026-03-01T12:04:00.000000Z', 'assessed', 200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.audit VALUES (9, '2026-03-01T12:05:00.000000Z', 'assessed', 200, NULL, NULL, 'Practitioner/ä', NULL, 'p4', '5154ef5f-bac0-4757-b057-c1627cf7fcf6', NULL, NULL, NULL);
INSERT INTO public.audit VALUES (10, '2026-03-01T12:05:00.000000Z', 'assessed', 200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.audit VALUES (11, '2026-03-01T12:00:00.000000Z', 'bad-request', 400, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.card VALUES ('e488b6c8-5ad3-4a32-8332-f05a58296818', 'risk', 'warning', 'f453324e-f486-4b73-9fab-a8272e50bd4e', '767d5274-c68d-4b5d-803a-960a8652dbd0', 'diabetes-risk', '2026-03-01T12:01:00.000000Z');
INSERT INTO public.card VALUES ('b3de08f9-ec98-4704-8692-ba0357079670', 'risk', 'warning', 'fa749692-f21f-45eb-aed7-8f5d0960afe9', 'af9b74f8-4ffc-4f42-9792-1e6c8b8e8f4e', 'diabetes-risk', '2026-03-01T12:02:00.000000Z');
INSERT INTO public.card VALUES ('bd953dc2-3cc2-4779-8825-c7cc67e84707', 'risk', 'warning', '7bd9e8a1-ff29-4d0e-8f2e-84fcb06dbee0', '400db00d-d388-4a50-9805-6ed0980dc6ff', 'diabetes-risk', '2026-03-01T12:03:00.000000Z');
INSERT INTO public.card VALUES ('69f0441e-c9ba-4e62-a580-c35ea161d909', 'risk', 'warning', '558d2adb-7e5a-4930-8d39-e15808606af8', '5f7cc5d8-6f3f-4240-ab37-d8171b4c24c2', 'diabetes-risk', '2026-03-01T12:04:00.000000Z');
INSERT INTO public.card VALUES ('78573797-4a80-4546-8627-31417aa286ac', 'risk', 'warning', '2b56955d-da2d-4b3d-9ed2-aa0cffd21f09', '1cd0c151-2581-40f9-a6e0-53f7675ebe3b', 'diabetes-risk', '2026-03-01T12:05:00.000000Z');
INSERT INTO public.feedback VALUES (1, 'e488b6c8-5ad3-4a32-8332-f05a58296818', 'accepted', '2026-03-01T12:00:00.000000Z', 'diabetes-risk', '2026-03-01T12:00:00.000000Z', NULL, '["4bbdbb01-dc14-4d57-9e07-30b3cc170c31"]', '{"code":"x"}', 'é');
INSERT INTO public.feedback VALUES (2, 'b3de08f9-ec98-4704-8692-ba0357079670', 'accepted', '2026-03-01T12:00:00.000000Z', 'diabetes-risk', '2026-03-01T12:00:00.000000Z', NULL, '["b89c4e56-261c-474b-a076-57d61404ab1e"]', '{"code":"x"}', 'é');
INSERT INTO public.feedback VALUES (3, 'bd953dc2-3cc2-4779-8825-c7cc67e84707', 'accepted', '2026-03-01T12:00:00.000000Z', 'diabetes-risk', '2026-03-01T12:00:00.000000Z', NULL, '["a36939ef-ea83-454a-baa3-0fac0e42d43c"]', '{"code":"x"}', 'é');
INSERT INTO public.feedback VALUES (4, '69f0441e-c9ba-4e62-a580-c35ea161d909', 'accepted', '2026-03-01T12:00:00.000000Z', 'diabetes-risk', '2026-03-01T12:00:00.000000Z', NULL, '["ec08693c-7401-45ce-a425-d75a4b78dc3d"]', '{"code":"x"}', 'é');
INSERT INTO public.feedback VALUES (5, '78573797-4a80-4546-8627-31417aa286ac', 'accepted', '2026-03-01T12:00:00.000000Z', 'diabetes-risk', '2026-03-01T12:00:00.000000Z', NULL, '["8820e3bd-fd06-49f6-9272-324860831ef2"]', '{"code":"x"}', 'é');
INSERT INTO public.outbox VALUES ('6baf71d7-d840-4b1a-8f0b-97522634f16f', '558d2adb-7e5a-4930-8d39-e15808606af8', 'http://127.0.0.1:8080/fhir', 'General Hospital', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"fb368220-216d-47a2-b501-e088d6a34d3e"}],"status":"final"}', 'ready', 0, '2026-03-01T12:04:00.000000Z', '2026-03-01T12:04:00.000000Z', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.outbox VALUES ('cc7c6d81-2d6f-4efc-8e61-3a365119cdcc', 'fa749692-f21f-45eb-aed7-8f5d0960afe9', 'http://127.0.0.1:8080/fhir', 'General Hospital', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"834c1b69-573a-459a-b55f-2af41757905e"}],"status":"final"}', 'claimed', 1, '2026-03-01T12:02:00.000000Z', '2026-03-01T12:02:00.000000Z', 'w1', '2026-03-01T13:01:00.000000Z', NULL, NULL, NULL, NULL);
INSERT INTO public.outbox VALUES ('c7eec61b-bf97-43c0-96fa-bb7b1ba95a54', 'f453324e-f486-4b73-9fab-a8272e50bd4e', 'http://127.0.0.1:8080/fhir', 'General Hospital', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"3eff8b3f-c177-4113-9e78-2196324f3e81"}],"status":"final"}', 'delivered', 1, '2026-03-01T12:01:00.000000Z', '2026-03-01T12:01:00.000000Z', NULL, NULL, '2026-03-01T13:00:00.000000Z', NULL, 'RiskAssessment/9', '1');
INSERT INTO public.outbox VALUES ('2547f19c-6bf8-4914-a6a5-bc9974a677c6', '7bd9e8a1-ff29-4d0e-8f2e-84fcb06dbee0', 'http://127.0.0.1:8080/fhir', 'General Hospital', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"14b9adb5-0c6d-4a3d-b85a-5cd22959fea3"}],"status":"final"}', 'dead', 1, '2026-03-01T12:03:00.000000Z', '2026-03-01T12:03:00.000000Z', NULL, NULL, '2026-03-01T13:00:00.000000Z', 'HTTP 422', NULL, NULL);
SELECT pg_catalog.setval('public.audit_id_seq', 11, true);
SELECT pg_catalog.setval('public.feedback_id_seq', 5, true);
ALTER TABLE ONLY public.assessment
    ADD CONSTRAINT assessment_identifier_key UNIQUE (identifier);
ALTER TABLE ONLY public.assessment
    ADD CONSTRAINT assessment_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.card
    ADD CONSTRAINT card_pkey PRIMARY KEY (uuid);
ALTER TABLE ONLY public.feedback
    ADD CONSTRAINT feedback_card_outcome_outcome_timestamp_key UNIQUE (card, outcome, outcome_timestamp);
ALTER TABLE ONLY public.feedback
    ADD CONSTRAINT feedback_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_assessment_id_key UNIQUE (assessment_id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
CREATE INDEX assessment_newest ON public.assessment USING btree (received_at, id);
CREATE INDEX assessment_of_call ON public.assessment USING btree (hook_instance);
CREATE INDEX assessment_of_patient ON public.assessment USING btree (patient_id, received_at, id);
CREATE INDEX ix_audit_patient_id ON public.audit USING btree (patient_id);
CREATE INDEX ix_audit_recorded_at ON public.audit USING btree (recorded_at);
CREATE INDEX ix_card_assessment_id ON public.card USING btree (assessment_id);
CREATE INDEX outbox_due ON public.outbox USING btree (state, available_at);
CREATE TRIGGER audit_refuses_changes BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit FOR EACH STATEMENT EXECUTE FUNCTION public.audit_is_append_only();
ALTER TABLE ONLY public.card
    ADD CONSTRAINT card_assessment_id_fkey FOREIGN KEY (assessment_id) REFERENCES public.assessment(id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_assessment_id_fkey FOREIGN KEY (assessment_id) REFERENCES public.assessment(id);
