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
    model_version text,
    action text,
    resource_id text,
    suspicious text,
    calls integer,
    detail text,
    chain text,
    seq bigint,
    previous text,
    digest text
);
CREATE TABLE public.audit_head (
    chain text NOT NULL,
    seq bigint NOT NULL,
    digest text NOT NULL
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
CREATE TABLE public.used_jti (
    token bytea NOT NULL,
    expires_at character varying(27) NOT NULL
);
ALTER TABLE ONLY public.audit ALTER COLUMN id SET DEFAULT nextval('public.audit_id_seq'::regclass);
ALTER TABLE ONLY public.feedback ALTER COLUMN id SET DEFAULT nextval('public.feedback_id_seq'::regclass);
INSERT INTO public.assessment VALUES ('3eff8b3f-c177-4113-9e78-2196324f3e81', '76531737-f129-48c6-91ca-4dc4edfde416', 'https://ehr.example.org/fhir', 'p1', NULL, 'diabetes-risk', 'diabetes-undiagnosed', '1.0.0', '2026-03-01T12:01:00.000000Z', '2026-03-01T12:01:00.000000Z', 'e488b6c8-5ad3-4a32-8332-f05a58296818', 0.30000000000000004, 'moderate', '{"glucose":0.30000000000000004,"absent":null,"name":"Zo\u00eb"}', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"76531737-f129-48c6-91ca-4dc4edfde416"}],"status":"final"}');
INSERT INTO public.assessment VALUES ('25f02628-eb07-430d-9cd5-061c9c5f319e', 'b3de08f9-ec98-4704-8692-ba0357079670', 'https://ehr.example.org/fhir', 'p1', NULL, 'diabetes-risk', 'diabetes-undiagnosed', '1.0.0', '2026-03-01T12:02:00.000000Z', '2026-03-01T12:02:00.000000Z', 'af9b74f8-4ffc-4f42-9792-1e6c8b8e8f4e', 0.30000000000000004, 'moderate', '{"glucose":0.5,"absent":null,"name":"Zo\u00eb"}', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"b3de08f9-ec98-4704-8692-ba0357079670"}],"status":"final"}');
INSERT INTO public.assessment VALUES ('ec717f15-8895-487f-99c4-258bfc985000', 'bd953dc2-3cc2-4779-8825-c7cc67e84707', 'https://ehr.example.org/fhir', 'Zoë-2', NULL, 'diabetes-risk', 'diabetes-undiagnosed', '1.0.0', '2026-03-01T12:03:00.000000Z', '2026-03-01T12:03:00.000000Z', '400db00d-d388-4a50-9805-6ed0980dc6ff', 0.30000000000000004, 'moderate', '{"glucose":0.7000000000000001,"absent":null,"name":"Zo\u00eb"}', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"bd953dc2-3cc2-4779-8825-c7cc67e84707"}],"status":"final"}');
INSERT INTO public.assessment VALUES ('21fdac3a-f325-4fbe-9065-6c8fbb4e5c11', '69f0441e-c9ba-4e62-a580-c35ea161d909', 'https://ehr.example.org/fhir', 'p3', NULL, 'diabetes-risk', 'diabetes-undiagnosed', '1.1.0', '2026-03-01T12:04:00.000000Z', '2026-03-01T12:04:00.000000Z', '5f7cc5d8-6f3f-4240-ab37-d8171b4c24c2', 0.30000000000000004, 'moderate', '{"glucose":0.9,"absent":null,"name":"Zo\u00eb"}', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"69f0441e-c9ba-4e62-a580-c35ea161d909"}],"status":"final"}');
INSERT INTO public.assessment VALUES ('5154ef5f-bac0-4757-b057-c1627cf7fcf6', '78573797-4a80-4546-8627-31417aa286ac', 'https://ehr.example.org/fhir', 'p4', NULL, 'diabetes-risk', 'diabetes-undiagnosed', '1.0.0', '2026-03-01T12:05:00.000000Z', '2026-03-01T12:05:00.000000Z', '1cd0c151-2581-40f9-a6e0-53f7675ebe3b', 0.30000000000000004, 'moderate', '{"glucose":1.1,"absent":null,"name":"Zo\u00eb"}', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"78573797-4a80-4546-8627-31417aa286ac"}],"status":"final"}');
INSERT INTO public.audit VALUES (1, '2026-03-01T12:01:00.000000Z', 'assessed', 200, NULL, NULL, 'Practitioner/ä', NULL, 'p1', 'e488b6c8-5ad3-4a32-8332-f05a58296818', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 1, '4bd9f238ba8a033dced3708e0a6cafd00e3e115bac8a2b53c9a7824ef90211da', '3c1306cc1c6a941e4f2c8a2a9d85606c194eacb04ed8049c7d8def61ef5570a2');
INSERT INTO public.audit VALUES (2, '2026-03-01T12:01:00.000000Z', 'assessed', 200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 2, '3c1306cc1c6a941e4f2c8a2a9d85606c194eacb04ed8049c7d8def61ef5570a2', '65ddd462f4e0627a8b13cb52f3a41945978353419412b27aa006b70ed377a392');
INSERT INTO public.audit VALUES (3, '2026-03-01T12:02:00.000000Z', 'assessed', 200, NULL, NULL, 'Practitioner/ä', NULL, 'p1', 'af9b74f8-4ffc-4f42-9792-1e6c8b8e8f4e', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 3, '65ddd462f4e0627a8b13cb52f3a41945978353419412b27aa006b70ed377a392', '061e97e5485b272d418baf298a017b02367a2acd6f8f57948a66d6e742f21bf6');
INSERT INTO public.audit VALUES (4, '2026-03-01T12:02:00.000000Z', 'assessed', 200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 4, '061e97e5485b272d418baf298a017b02367a2acd6f8f57948a66d6e742f21bf6', '6a6690b8f9b6ead85c54cd63ba0ad7e7db966fa06f06933a4ee4579974a7cb48');
INSERT INTO public.audit VALUES (5, '2026-03-01T12:03:00.000000Z', 'assessed', 200, NULL, NULL, 'Practitioner/ä', NULL, 'Zoë-2', '400db00d-d388-4a50-9805-6ed0980dc6ff', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 5, '6a6690b8f9b6ead85c54cd63ba0ad7e7db966fa06f06933a4ee4579974a7cb48', '84e8a9a368e8fc9bd7f8865cc6c69e526e7d2837e159841f66ad4f7b0e285fda');
INSERT INTO public.audit VALUES (6, '2026-03-01T12:03:00.000000Z', 'assessed', 200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 6, '84e8a9a368e8fc9bd7f8865cc6c69e526e7d2837e159841f66ad4f7b0e285fda', '374ed7768ed77e6945352f835d03779bc829bb354c4cbf88f055b392115af5b0');
INSERT INTO public.audit VALUES (7, '2026-03-01T12:04:00.000000Z', 'assessed', 200, NULL, NULL, 'Practitioner/ä', NULL, 'p3', '5f7cc5d8-6f3f-4240-ab37-d8171b4c24c2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 7, '374ed7768ed77e6945352f835d03779bc829bb354c4cbf88f055b392115af5b0', '0b19151b4dbb942d49514ca48b3d892f12d4cfad7c608c7861abcc0a0d9668d8');
INSERT INTO public.audit VALUES (8, '2026-03-01T12:04:00.000000Z', 'assessed', 200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 8, '0b19151b4dbb942d49514ca48b3d892f12d4cfad7c608c7861abcc0a0d9668d8', 'c7d6d86c332a97035a8c2398efda88671872f8be7b89326477025ddd24beaa7b');
INSERT INTO public.audit VALUES (9, '2026-03-01T12:05:00.000000Z', 'assessed', 200, NULL, NULL, 'Practitioner/ä', NULL, 'p4', '1cd0c151-2581-40f9-a6e0-53f7675ebe3b', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 9, 'c7d6d86c332a97035a8c2398efda88671872f8be7b89326477025ddd24beaa7b', '68e37f45ff75077f6c0e7703110dc365e9be74b0b1a1935664ecb0f84029a8bd');
INSERT INTO public.audit VALUES (10, '2026-03-01T12:05:00.000000Z', 'assessed', 200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 10, '68e37f45ff75077f6c0e7703110dc365e9be74b0b1a1935664ecb0f84029a8bd', '98e129255ac5e787fb860842e1d4807e8d74084cc320688f23606c75de6b3c67');
INSERT INTO public.audit VALUES (11, '2026-03-01T12:00:00.000000Z', 'bad-request', 400, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fa749692f21f45ebaed78f5d0960afe9', 11, '98e129255ac5e787fb860842e1d4807e8d74084cc320688f23606c75de6b3c67', 'c6a97085b4b7d8920078ca5e219705a4b7261c06464e6c1e73ace3a5fc17a2cc');
INSERT INTO public.audit_head VALUES ('fa749692f21f45ebaed78f5d0960afe9', 11, 'c6a97085b4b7d8920078ca5e219705a4b7261c06464e6c1e73ace3a5fc17a2cc');
INSERT INTO public.card VALUES ('767d5274-c68d-4b5d-803a-960a8652dbd0', 'risk', 'warning', '3eff8b3f-c177-4113-9e78-2196324f3e81', 'c7eec61b-bf97-43c0-96fa-bb7b1ba95a54', 'diabetes-risk', '2026-03-01T12:01:00.000000Z');
INSERT INTO public.card VALUES ('cc7c6d81-2d6f-4efc-8e61-3a365119cdcc', 'risk', 'warning', '25f02628-eb07-430d-9cd5-061c9c5f319e', 'b89c4e56-261c-474b-a076-57d61404ab1e', 'diabetes-risk', '2026-03-01T12:02:00.000000Z');
INSERT INTO public.card VALUES ('2547f19c-6bf8-4914-a6a5-bc9974a677c6', 'risk', 'warning', 'ec717f15-8895-487f-99c4-258bfc985000', 'a36939ef-ea83-454a-baa3-0fac0e42d43c', 'diabetes-risk', '2026-03-01T12:03:00.000000Z');
INSERT INTO public.card VALUES ('6baf71d7-d840-4b1a-8f0b-97522634f16f', 'risk', 'warning', '21fdac3a-f325-4fbe-9065-6c8fbb4e5c11', 'ec08693c-7401-45ce-a425-d75a4b78dc3d', 'diabetes-risk', '2026-03-01T12:04:00.000000Z');
INSERT INTO public.card VALUES ('8820e3bd-fd06-49f6-9272-324860831ef2', 'risk', 'warning', '5154ef5f-bac0-4757-b057-c1627cf7fcf6', 'efe8b3b5-a080-46a5-adec-e95af5b67e6e', 'diabetes-risk', '2026-03-01T12:05:00.000000Z');
INSERT INTO public.feedback VALUES (1, '767d5274-c68d-4b5d-803a-960a8652dbd0', 'accepted', '2026-03-01T12:00:00.000000Z', 'diabetes-risk', '2026-03-01T12:00:00.000000Z', NULL, '["834c1b69-573a-459a-b55f-2af41757905e"]', '{"code":"x"}', 'é');
INSERT INTO public.feedback VALUES (2, 'cc7c6d81-2d6f-4efc-8e61-3a365119cdcc', 'accepted', '2026-03-01T12:00:00.000000Z', 'diabetes-risk', '2026-03-01T12:00:00.000000Z', NULL, '["14b9adb5-0c6d-4a3d-b85a-5cd22959fea3"]', '{"code":"x"}', 'é');
INSERT INTO public.feedback VALUES (3, '2547f19c-6bf8-4914-a6a5-bc9974a677c6', 'accepted', '2026-03-01T12:00:00.000000Z', 'diabetes-risk', '2026-03-01T12:00:00.000000Z', NULL, '["fb368220-216d-47a2-b501-e088d6a34d3e"]', '{"code":"x"}', 'é');
INSERT INTO public.feedback VALUES (4, '6baf71d7-d840-4b1a-8f0b-97522634f16f', 'accepted', '2026-03-01T12:00:00.000000Z', 'diabetes-risk', '2026-03-01T12:00:00.000000Z', NULL, '["f5cb2afc-741b-424d-85ae-8770f9dba1db"]', '{"code":"x"}', 'é');
INSERT INTO public.feedback VALUES (5, '8820e3bd-fd06-49f6-9272-324860831ef2', 'accepted', '2026-03-01T12:00:00.000000Z', 'diabetes-risk', '2026-03-01T12:00:00.000000Z', NULL, '["2e1c5d3a-56a6-4b41-9e28-123c7fd39898"]', '{"code":"x"}', 'é');
INSERT INTO public.outbox VALUES ('2b56955d-da2d-4b3d-9ed2-aa0cffd21f09', '21fdac3a-f325-4fbe-9065-6c8fbb4e5c11', 'http://127.0.0.1:8080/fhir', 'General Hospital', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"69f0441e-c9ba-4e62-a580-c35ea161d909"}],"status":"final"}', 'ready', 0, '2026-03-01T12:04:00.000000Z', '2026-03-01T12:04:00.000000Z', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.outbox VALUES ('558d2adb-7e5a-4930-8d39-e15808606af8', 'ec717f15-8895-487f-99c4-258bfc985000', 'http://127.0.0.1:8080/fhir', 'General Hospital', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"bd953dc2-3cc2-4779-8825-c7cc67e84707"}],"status":"final"}', 'claimed', 1, '2026-03-01T12:03:00.000000Z', '2026-03-01T12:03:00.000000Z', 'w1', '2026-03-01T13:01:00.000000Z', NULL, NULL, NULL, NULL);
INSERT INTO public.outbox VALUES ('7bd9e8a1-ff29-4d0e-8f2e-84fcb06dbee0', '25f02628-eb07-430d-9cd5-061c9c5f319e', 'http://127.0.0.1:8080/fhir', 'General Hospital', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"b3de08f9-ec98-4704-8692-ba0357079670"}],"status":"final"}', 'delivered', 1, '2026-03-01T12:02:00.000000Z', '2026-03-01T12:02:00.000000Z', NULL, NULL, '2026-03-01T13:00:00.000000Z', NULL, 'RiskAssessment/9', '1');
INSERT INTO public.outbox VALUES ('4bbdbb01-dc14-4d57-9e07-30b3cc170c31', '3eff8b3f-c177-4113-9e78-2196324f3e81', 'http://127.0.0.1:8080/fhir', 'General Hospital', '{"resourceType":"RiskAssessment","identifier":[{"system":"urn:cds-service:risk-assessment","value":"76531737-f129-48c6-91ca-4dc4edfde416"}],"status":"final"}', 'dead', 1, '2026-03-01T12:01:00.000000Z', '2026-03-01T12:01:00.000000Z', NULL, NULL, '2026-03-01T13:00:00.000000Z', 'HTTP 422', NULL, NULL);
INSERT INTO public.used_jti VALUES ('\x30313233343536373839616263646566', '2053-07-16T12:00:00.000000Z');
SELECT pg_catalog.setval('public.audit_id_seq', 11, true);
SELECT pg_catalog.setval('public.feedback_id_seq', 5, true);
ALTER TABLE ONLY public.assessment
    ADD CONSTRAINT assessment_identifier_key UNIQUE (identifier);
ALTER TABLE ONLY public.assessment
    ADD CONSTRAINT assessment_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.audit_head
    ADD CONSTRAINT audit_head_pkey PRIMARY KEY (chain);
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
ALTER TABLE ONLY public.used_jti
    ADD CONSTRAINT used_jti_pkey PRIMARY KEY (token);
CREATE INDEX assessment_newest ON public.assessment USING btree (received_at, id);
CREATE INDEX assessment_of_call ON public.assessment USING btree (hook_instance);
CREATE INDEX assessment_of_patient ON public.assessment USING btree (patient_id, received_at, id);
CREATE UNIQUE INDEX audit_in_chains ON public.audit USING btree (chain, seq);
CREATE INDEX audit_of_action ON public.audit USING btree (action);
CREATE INDEX ix_audit_patient_id ON public.audit USING btree (patient_id);
CREATE INDEX ix_audit_recorded_at ON public.audit USING btree (recorded_at);
CREATE INDEX ix_card_assessment_id ON public.card USING btree (assessment_id);
CREATE INDEX ix_used_jti_expires_at ON public.used_jti USING btree (expires_at);
CREATE INDEX outbox_due ON public.outbox USING btree (state, available_at);
CREATE TRIGGER audit_refuses_changes BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit FOR EACH STATEMENT EXECUTE FUNCTION public.audit_is_append_only();
ALTER TABLE ONLY public.card
    ADD CONSTRAINT card_assessment_id_fkey FOREIGN KEY (assessment_id) REFERENCES public.assessment(id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_assessment_id_fkey FOREIGN KEY (assessment_id) REFERENCES public.assessment(id);
